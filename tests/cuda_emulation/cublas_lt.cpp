// cuBLASLt's matrix products, after its documentation: column-major, with checks as strict as the
// documented ones. Three algorithms stand for the real hundreds: a fast one that needs 16-byte
// alignment, one for any alignment, and one that splits the inner dimension and needs workspace.

#include <cublasLt.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "core/dtype.h"
#include "core/formulas.h"
#include "tests/cuda_emulation/emulation.h"

using trireme::bf16;

struct cublasLtContext {
    bool open = true;
};

struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void* bias = nullptr;
    void* aux = nullptr;
    int64_t aux_ld = 0;
};

struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType_t type;
    int64_t rows, cols, ld;
    bool operator==(const cublasLtMatrixLayoutOpaque_t&) const = default;
};

struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace_bytes = 0;
    uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

using Operation = cublasLtMatmulDescOpaque_t;
using Layout = cublasLtMatrixLayoutOpaque_t;

std::atomic<bool> epilogues_refused{false};

constexpr uint32_t kBiasBit = 4;
constexpr uint32_t kAuxBit = 128;
constexpr int kSplits = 3;

struct Sizes {
    int64_t m, n, k;
};

// What the stand-in keeps in a cublasLtMatmulAlgo_t. It is of the problem that was asked for.
struct Algorithm {
    int32_t id, splits;
    uint32_t alignment;  // bytes, of addresses and of columns; 0: of an element
    uint32_t epilogue;
    Sizes sizes;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

size_t workspace_of(const Algorithm& algorithm) {
    if (algorithm.splits == 1) return 0;
    return static_cast<size_t>(algorithm.sizes.m * algorithm.sizes.n * algorithm.splits) *
           sizeof(float);
}

int64_t size_of(cudaDataType_t type) {
    return type == CUDA_R_32F ? 4 : 2;
}

float load(const void* matrix, cudaDataType_t type, int64_t i) {
    return type == CUDA_R_32F ? static_cast<const float*>(matrix)[i]
                              : float{static_cast<const bf16*>(matrix)[i]};
}

void store(void* matrix, cudaDataType_t type, int64_t i, float value) {
    if (type == CUDA_R_32F) {
        static_cast<float*>(matrix)[i] = value;
    } else {
        static_cast<bf16*>(matrix)[i] = bf16(value);
    }
}

template <typename T>
cublasStatus_t take_attribute(T& attribute, const void* value, size_t bytes) {
    if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&attribute, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool is_known(uint32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_DEFAULT || epilogue == CUBLASLT_EPILOGUE_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_GELU_AUX || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_DGELU || epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

bool has_bias(uint32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

bool has_aux(uint32_t epilogue) {
    return (epilogue & kAuxBit) != 0;
}

bool is_aligned(const void* address, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) == 0;
}

// Checks of what both the heuristic and the product are told.
cublasStatus_t check_problem(const Operation* operation, const Layout* a, const Layout* b,
                             const Layout* c, const Layout* d, Sizes& sizes) {
    if (!operation || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    const bool at = operation->transpose_a != CUBLAS_OP_N;
    const bool bt = operation->transpose_b != CUBLAS_OP_N;
    sizes = {at ? a->cols : a->rows, bt ? b->rows : b->cols, at ? a->rows : a->cols};
    if ((bt ? b->cols : b->rows) != sizes.k || d->rows != sizes.m || d->cols != sizes.n) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (c->rows != d->rows || c->cols != d->cols || c->type != d->type) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    for (const Layout* layout : {a, b, c, d}) {
        if (layout->rows <= 0 || layout->cols <= 0) return CUBLAS_STATUS_INVALID_VALUE;
        if (layout->ld < layout->rows) return CUBLAS_STATUS_INVALID_VALUE;
    }
    // The rows of the documentation's table of types that this computes.
    if (operation->compute != CUBLAS_COMPUTE_32F || operation->scale != CUDA_R_32F) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const bool known_types = (a->type == CUDA_R_16BF || a->type == CUDA_R_32F) &&
                             b->type == a->type && (d->type == a->type || d->type == CUDA_R_32F);
    if (!known_types || !is_known(operation->epilogue)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (has_aux(operation->epilogue) &&
        (operation->aux_ld % 8 != 0 || operation->aux_ld < sizes.m)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return CUBLAS_STATUS_SUCCESS;
}

// The bytes that the address, and with it each of its columns, is a multiple of.
bool columns_aligned(const void* address, const Layout& layout, int64_t bytes) {
    return is_aligned(address, bytes) && layout.ld * size_of(layout.type) % bytes == 0;
}

// op(matrix) with its columns, or its rows if asked, one after another.
std::vector<float> unpack(const void* matrix, const Layout& layout, bool transposed, bool by_rows) {
    const int64_t rows = transposed ? layout.cols : layout.rows;
    const int64_t cols = transposed ? layout.rows : layout.cols;
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (int64_t j = 0; j < cols; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
            const int64_t from = transposed ? j + i * layout.ld : i + j * layout.ld;
            const int64_t to = by_rows ? i * cols + j : i + j * rows;
            values[static_cast<size_t>(to)] = load(matrix, layout.type, from);
        }
    }
    return values;
}

float dot(const float* x, const float* y, int64_t begin, int64_t end) {
    double sum = 0.0;
    for (int64_t i = begin; i < end; ++i) {
        sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    }
    return static_cast<float>(sum);
}

// A product with all its arguments, as it stands in a stream.
struct Product {
    Operation operation;
    Layout a_layout, b_layout, c_layout, d_layout;
    const void *a, *b, *c;
    void* d;
    float alpha, beta;
    Algorithm algorithm;
    float* workspace;

    // Of the kernel that does it: any size, but these types, epilogue and ways to read.
    uint64_t kernel() const {
        uint64_t number = static_cast<uint64_t>(algorithm.id);
        number = number * 4096 + algorithm.epilogue;
        number = number * 2 + (operation.transpose_a != CUBLAS_OP_N);
        number = number * 2 + (operation.transpose_b != CUBLAS_OP_N);
        return (number * 256 + a_layout.type) * 256 + d_layout.type;
    }
    void operator()() const;
    float finish(float value, int64_t i, int64_t j) const;
};

void Product::operator()() const {
    const auto [m, n, k] = algorithm.sizes;
    const auto left = unpack(a, a_layout, operation.transpose_a != CUBLAS_OP_N, true);
    const auto right = unpack(b, b_layout, operation.transpose_b != CUBLAS_OP_N, false);
    for (int64_t j = 0; j < n; ++j) {
        if (operation.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
            const float* column = right.data() + j * k;
            store(operation.bias, d_layout.type, j,
                  static_cast<float>(std::accumulate(column, column + k, 0.0)));
        }
        for (int64_t i = 0; i < m; ++i) {
            const float* row = left.data() + i * k;
            const float* column = right.data() + j * k;
            float sum = 0.0f;
            if (algorithm.splits == 1) {
                sum = dot(row, column, 0, k);
            } else {
                // The parts go through the workspace, so that one that is not there, or is
                // somebody's data, is found.
                float* parts = workspace + (i + j * m) * algorithm.splits;
                for (int s = 0; s < algorithm.splits; ++s) {
                    parts[s] =
                        dot(row, column, k * s / algorithm.splits, k * (s + 1) / algorithm.splits);
                }
                for (int s = 0; s < algorithm.splits; ++s) sum += parts[s];
            }
            float value = alpha * sum;
            if (beta != 0.0f) value += beta * load(c, c_layout.type, i + j * c_layout.ld);
            store(d, d_layout.type, i + j * d_layout.ld, finish(value, i, j));
        }
    }
}

float Product::finish(float value, int64_t i, int64_t j) const {
    const cudaDataType_t type = d_layout.type;  // of bias and aux as well
    const int64_t at = i + j * operation.aux_ld;
    if (operation.epilogue == CUBLASLT_EPILOGUE_BGRADB) return value;
    if (has_bias(operation.epilogue)) value += load(operation.bias, type, i);
    if (operation.epilogue == CUBLASLT_EPILOGUE_DGELU) {
        return value * trireme::gelu_derivative(load(operation.aux, type, at));
    }
    if (!has_aux(operation.epilogue)) return value;
    store(operation.aux, type, at, value);
    return trireme::gelu(value);
}

}  // namespace

void cuda_emulation::refuse_epilogues(bool refused) {
    epilogues_refused = refused;
}

size_t cublasLtGetVersion() {
    return 130100;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS:
            return "success";
        case CUBLAS_STATUS_INVALID_VALUE:
            return "an unsupported value or parameter was passed";
        case CUBLAS_STATUS_NOT_SUPPORTED:
            return "the requested functionality is not supported";
        default:
            return "failed";
    }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = new cublasLtContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
    *operation = new Operation{.compute = compute, .scale = scale};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return take_attribute(operation->transpose_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return take_attribute(operation->transpose_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return take_attribute(operation->epilogue, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return take_attribute(operation->bias, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
            return take_attribute(operation->aux, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
            return take_attribute(operation->aux_ld, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
    *layout = new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    *preference = new cublasLtMatmulPreferenceOpaque_t;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        return take_attribute(preference->workspace_bytes, value, bytes);
    }
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        return take_attribute(preference->reduction_schemes, value, bytes);
    }
    const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    return take_attribute(preference->alignments[matrix], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int most_results,
    cublasLtMatmulHeuristicResult_t* results, int* result_count) {
    if (!handle || !preference || most_results <= 0) return CUBLAS_STATUS_INVALID_VALUE;
    Sizes sizes{};
    const cublasStatus_t status = check_problem(operation, a, b, c, d, sizes);
    if (status != CUBLAS_STATUS_SUCCESS) return status;

    // The addresses are not known, but how they will be aligned is.
    bool packs = true;
    const Layout* layouts[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i) {
        const uintptr_t alignment = preference->alignments[i];
        packs &= columns_aligned(reinterpret_cast<const void*>(alignment), *layouts[i], 16);
    }
    if (has_bias(operation->epilogue)) packs &= is_aligned(operation->bias, 16);
    const bool splits =
        (preference->reduction_schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0;

    std::vector<Algorithm> algorithms;
    if (epilogues_refused && operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        *result_count = 0;
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (packs) algorithms.push_back({66, 1, 16, operation->epilogue, sizes});
    algorithms.push_back({21, 1, 0, operation->epilogue, sizes});
    if (splits) {
        // A long inner dimension is where splitting pays.
        const bool first = sizes.k > 2 * std::max(sizes.m, sizes.n);
        algorithms.insert(first ? algorithms.begin() : algorithms.end(),
                          {24, kSplits, 0, operation->epilogue, sizes});
    }
    *result_count = 0;
    for (const Algorithm& algorithm : algorithms) {
        if (workspace_of(algorithm) > preference->workspace_bytes) continue;
        if (*result_count == most_results) break;
        cublasLtMatmulHeuristicResult_t& result = results[(*result_count)++];
        result = {};
        std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
        result.workspaceSize = workspace_of(algorithm);
        result.state = CUBLAS_STATUS_SUCCESS;
        result.wavesCount = 1.0f;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* opaque,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written) {
    Algorithm algorithm{};
    std::memcpy(&algorithm, opaque, sizeof(algorithm));
    int32_t number = 0;
    if (attribute == CUBLASLT_ALGO_CONFIG_ID) number = algorithm.id;
    if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) number = algorithm.splits;
    if (!value || bytes != sizeof(number)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(value, &number, sizeof(number));
    *written = sizeof(number);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* opaque,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
    if (!handle || !alpha || !beta || !a || !b || !d) return CUBLAS_STATUS_INVALID_VALUE;
    Product product{};
    const cublasStatus_t status =
        check_problem(operation, a_layout, b_layout, c_layout, d_layout, product.algorithm.sizes);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const Sizes sizes = product.algorithm.sizes;
    std::memcpy(&product.alpha, alpha, sizeof(float));
    std::memcpy(&product.beta, beta, sizeof(float));
    if (product.beta != 0.0f && !c) return CUBLAS_STATUS_INVALID_VALUE;
    if (c == d && !(*c_layout == *d_layout)) return CUBLAS_STATUS_INVALID_VALUE;

    // The search without an algorithm exists, but is not for a program that is to be fast.
    if (!opaque) return CUBLAS_STATUS_NOT_SUPPORTED;
    std::memcpy(&product.algorithm, opaque, sizeof(Algorithm));
    const Algorithm& algorithm = product.algorithm;
    const Sizes& made_for = algorithm.sizes;
    if (made_for.m != sizes.m || made_for.n != sizes.n || made_for.k != sizes.k ||
        algorithm.epilogue != operation->epilogue) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!is_aligned(workspace, 256) || workspace_bytes < workspace_of(algorithm) ||
        (workspace_of(algorithm) > 0 && !workspace)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }

    const int64_t element = algorithm.alignment > 0 ? algorithm.alignment : 0;
    const auto aligned = [&](const void* address, const Layout& layout) {
        return columns_aligned(address, layout, std::max(element, size_of(layout.type)));
    };
    if (!aligned(a, *a_layout) || !aligned(b, *b_layout) || !aligned(d, *d_layout) ||
        (c && !aligned(c, *c_layout))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (has_bias(operation->epilogue) &&
        (!operation->bias ||
         !is_aligned(operation->bias, std::max(element, size_of(d_layout->type))))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (has_aux(operation->epilogue) && (!operation->aux || !is_aligned(operation->aux, 16))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }

    // The description may be changed by the caller before the stream comes to the product.
    product.operation = *operation;
    product.a_layout = *a_layout, product.b_layout = *b_layout;
    product.c_layout = *c_layout, product.d_layout = *d_layout;
    product.a = a, product.b = b, product.c = c, product.d = d;
    product.workspace = static_cast<float*>(workspace);
    cuda_emulation::load_kernel(product.kernel());
    cuda_emulation::enqueue(stream, product);
    return CUBLAS_STATUS_SUCCESS;
}
