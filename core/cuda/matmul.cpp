#include "core/cuda/matmul.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <type_traits>
#include <vector>

#include "core/cuda/cuda_device.h"
#include "core/cuda/cuda_error.h"
#include "core/cuda/gpu_timer.h"
#include "core/cuda/scratch.h"

namespace trireme {

namespace {

constexpr int kCandidates = 8;            // algorithms to measure
constexpr double kLessThanChance = 0.98;  // of the time: what is faster by less may be so by chance
constexpr uint32_t kMostAlignment = 256;  // no algorithm asks for more

using HeuristicResult = cublasLtMatmulHeuristicResult_t;

void check_cublas(cublasStatus_t status, const char* what) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    const ExitCode code =
        status == CUBLAS_STATUS_ALLOC_FAILED ? ExitCode::out_of_memory : ExitCode::internal;
    throw Error(code, std::string("cuBLASLt, ") + what + ": " + cublasLtGetStatusString(status));
}

// The library's objects, owned.
template <typename Pointer, cublasStatus_t (*destroy)(Pointer)>
struct Destroy {
    void operator()(Pointer object) const { destroy(object); }
};
template <typename Pointer, cublasStatus_t (*destroy)(Pointer)>
using Owned = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroy<Pointer, destroy>>;

using Handle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

Handle make_handle() {
    cublasLtHandle_t handle = nullptr;
    check_cublas(cublasLtCreate(&handle), "opening the library");
    return Handle(handle);
}

struct EpilogueFacts {
    cublasLtEpilogue_t in_library;
    bool has_bias, has_aux, writes_aux;
    const char* text;
};

// In the order of MatmulEpilogue.
constexpr std::array kEpilogues = {
    EpilogueFacts{CUBLASLT_EPILOGUE_DEFAULT, false, false, false, ""},
    EpilogueFacts{CUBLASLT_EPILOGUE_BIAS, true, false, false, " + bias"},
    EpilogueFacts{CUBLASLT_EPILOGUE_GELU_AUX_BIAS, true, true, true, " + bias, gelu, aux"},
    EpilogueFacts{CUBLASLT_EPILOGUE_GELU_AUX, false, true, true, ", gelu, aux"},
    EpilogueFacts{CUBLASLT_EPILOGUE_DGELU, false, true, false, " * gelu'(aux)"},
    EpilogueFacts{CUBLASLT_EPILOGUE_BGRADB, true, false, false, ", sums"},
};

const EpilogueFacts& facts_of(MatmulEpilogue epilogue) {
    return kEpilogues.at(static_cast<size_t>(epilogue));
}

cudaDataType_t library_type(DType type) {
    return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

uint32_t alignment_of(const Tensor& tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.data) | kMostAlignment;
    return static_cast<uint32_t>(address & (~address + 1));  // the lowest bit
}

// Everything that the choice of an algorithm depends on.
struct Key {
    DType input, output;
    bool transpose_a, transpose_b, accumulate;
    MatmulEpilogue epilogue;
    int64_t rows, cols, inner;
    uint32_t a_alignment, b_alignment, output_alignment, bias_alignment, aux_alignment;  // bytes

    auto operator<=>(const Key&) const = default;
};

Key key_of(const CudaMatmulCall& call) {
    Key key{};
    key.input = call.a.dtype, key.output = call.output.dtype;
    key.transpose_a = call.transpose_a, key.transpose_b = call.transpose_b;
    key.accumulate = call.accumulate;
    key.epilogue = call.epilogue;
    key.rows = call.output.rows(), key.cols = call.output.cols();
    key.inner = call.transpose_a ? call.a.rows() : call.a.cols();
    key.a_alignment = alignment_of(call.a), key.b_alignment = alignment_of(call.b);
    key.output_alignment = alignment_of(call.output);
    key.bias_alignment = alignment_of(call.bias), key.aux_alignment = alignment_of(call.aux);
    return key;
}

bool is_matrix(const Tensor& tensor, int64_t rows, int64_t cols, bool transposed) {
    return tensor.rows() == (transposed ? cols : rows) &&
           tensor.cols() == (transposed ? rows : cols);
}

void check_call(const CudaMatmulCall& call, const Key& key) {
    const auto is_float = [](DType type) { return type == DType::f32 || type == DType::bf16; };
    TRIREME_CHECK(is_float(key.input) && call.b.dtype == key.input,
                  "matmul operands of one type, f32 or bf16");
    TRIREME_CHECK(key.output == DType::f32 || key.output == key.input,
                  "a matmul output of f32 or of the operands' type");
    if (key.rows > 0 && key.inner > 0) {
        TRIREME_CHECK(is_matrix(call.a, key.rows, key.inner, call.transpose_a) &&
                          is_matrix(call.b, key.inner, key.cols, call.transpose_b),
                      "matmul sizes [rows, inner] [inner, cols] = [rows, cols]");
    }
    const bool sums = key.epilogue == MatmulEpilogue::sums;
    TRIREME_CHECK(!call.accumulate ||
                      (key.output == DType::f32 && (key.epilogue == MatmulEpilogue::none || sums)),
                  "an f32 output and nothing else done with the product to accumulate");
    if (facts_of(key.epilogue).has_bias) {
        TRIREME_CHECK(
            call.bias.dtype == key.output && call.bias.elements() == (sums ? key.rows : key.cols),
            "a bias of the matmul output's type and columns, or sums for its rows");
    }
    if (facts_of(key.epilogue).has_aux) {
        TRIREME_CHECK(call.aux.dtype == key.output && call.aux.rows() == key.rows &&
                          call.aux.cols() == key.cols,
                      "an aux of the matmul output's type and size");
    }
}

// What cuBLASLt's documentation asks of the aux of a GELU.
bool takes_aux(const Tensor& aux) {
    return aux.cols() % 8 == 0 && reinterpret_cast<uintptr_t>(aux.data) % 16 == 0;
}

std::string describe(const Key& key) {
    std::ostringstream text;
    const auto put_operand = [&](int64_t rows, int64_t cols, bool transposed) {
        text << "[" << (transposed ? cols : rows) << ", " << (transposed ? rows : cols) << "]"
             << (transposed ? "^T " : " ");
    };
    put_operand(key.rows, key.inner, key.transpose_a);
    put_operand(key.inner, key.cols, key.transpose_b);
    text << name_of(key.input) << (key.accumulate ? " += " : " -> ") << name_of(key.output)
         << facts_of(key.epilogue).text << ", aligned to " << key.a_alignment << "/"
         << key.b_alignment << "/" << key.output_alignment;
    return text.str();
}

// For people: "?" where the library does not say.
template <typename T>
std::string config_text(const cublasLtMatmulAlgo_t& algorithm,
                        cublasLtMatmulAlgoConfigAttributes_t attribute) {
    T value{};
    size_t written = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
        &algorithm, attribute, &value, sizeof(value), &written);
    return status == CUBLAS_STATUS_SUCCESS ? std::to_string(value) : "?";
}

template <typename T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_cublas(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)),
                 "describing a product");
}

template <typename T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
    check_cublas(
        cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "describing what an algorithm may use");
}

// The library's matrices are column-major: a row-major matrix is its transpose there.
Layout layout_of(const Tensor& tensor) {
    cublasLtMatrixLayout_t layout = nullptr;
    check_cublas(cublasLtMatrixLayoutCreate(&layout, library_type(tensor.dtype),
                                            static_cast<uint64_t>(tensor.cols()),
                                            static_cast<uint64_t>(tensor.rows()), tensor.cols()),
                 "describing a matrix");
    return Layout(layout);
}

// A product as the library is asked for it: output^T = op(b)^T op(a)^T.
struct Plan {
    Operation operation;
    Layout a, b, output;
    cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;  // of the search for an algorithm
    HeuristicResult algorithm{};
    int measured_algorithms = 0;
    double microseconds = 0.0;  // of a run, where it was measured
    struct Comparison {
        double together, apart;  // microseconds
    };
    std::optional<Comparison> comparison;  // where it was asked for
};

constexpr const char* kTrialLabel = "matmul tuning";

// Gives the tensors that a trial writes memory of their own, aligned as theirs is: what a call
// writes may be added to. False when there is none.
bool move_into(Scratch& memory, const std::vector<Tensor*>& written) {
    const auto beside_alignment = [](const Tensor& tensor) {
        return size_t{alignment_of(tensor)} % kMostAlignment;
    };
    std::vector<size_t> offsets;
    size_t end = 0;
    for (const Tensor* tensor : written) {
        end = (end + kMostAlignment - 1) / kMostAlignment * kMostAlignment;
        offsets.push_back(end + beside_alignment(*tensor));
        end = offsets.back() + tensor->bytes();
    }
    try {
        memory.reserve(end);
    } catch (const Error& error) {
        if (error.code() != ExitCode::out_of_memory) throw;
        return false;
    }
    for (size_t i = 0; i < written.size(); ++i) {
        written[i]->data = static_cast<char*>(memory.reserve(end)) + offsets[i];
    }
    return true;
}

std::string text_of(const std::optional<Plan::Comparison>& comparison) {
    if (!comparison) return "";
    std::ostringstream text;
    text << "; in one pass " << comparison->together << " us, apart " << comparison->apart << " us";
    return text.str();
}

// The addresses are of one call; algorithms are searched for with their alignment.
void set_addresses(const Plan& plan, const CudaMatmulCall& call) {
    if (facts_of(call.epilogue).has_bias) {
        set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias.data);
    }
    if (facts_of(call.epilogue).has_aux) {
        set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, call.aux.data);
    }
}

Plan describe_product(const CudaMatmulCall& call) {
    Plan plan;
    cublasLtMatmulDesc_t operation = nullptr;
    check_cublas(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 "describing a product");
    plan.operation.reset(operation);
    const auto transposition = [](bool transposed) {
        return static_cast<int32_t>(transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    };
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, transposition(call.transpose_b));
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, transposition(call.transpose_a));
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
        static_cast<uint32_t>(facts_of(call.epilogue).in_library));
    if (facts_of(call.epilogue).has_aux) {
        set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, call.aux.cols());
    }
    plan.a = layout_of(call.a);
    plan.b = layout_of(call.b);
    plan.output = layout_of(call.output);
    set_addresses(plan, call);
    return plan;
}

}  // namespace

struct CudaMatmul::State {
    State(CudaDevice& device_, bool tune_)
        : device(device_),
          tune(tune_),
          workspace_bytes(size_t{device_.properties().major >= 9 ? 64u : 32u} << 20),
          handle(make_handle()),
          workspace(device_, "cuBLASLt workspace"),
          trial_memory(device_, kTrialLabel),
          comparison_memory(device_, kTrialLabel) {}

    Plan& plan_for(Stream& stream, const CudaMatmulCall& call, const Key& key);
    int find_algorithms(Plan& plan, const Key& key, std::span<HeuristicResult> results) const;
    void choose_fastest(Plan& plan, Stream& stream, const CudaMatmulCall& call,
                        std::span<const HeuristicResult> candidates);
    Plan::Comparison compare(Stream& stream, const CudaMatmulCall& call, const Variant& together,
                             const Variant& apart);
    cublasStatus_t enqueue(const Plan& plan, Stream& stream, const CudaMatmulCall& call,
                           const HeuristicResult& algorithm);

    CudaDevice& device;
    bool tune;
    size_t workspace_bytes;
    Handle handle;
    Scratch workspace;
    // What trials of algorithms write, and of the ways to do a product, which try algorithms.
    Scratch trial_memory, comparison_memory;
    GpuTimer timer;
    std::map<Key, Plan> plans;
};

CudaMatmul::CudaMatmul(CudaDevice& device, bool tune)
    : state_(std::make_unique<State>(device, tune)) {}

CudaMatmul::~CudaMatmul() = default;

void CudaMatmul::forget_trials() {
    state_->trial_memory.clear();
    state_->comparison_memory.clear();
}

void CudaMatmul::run(Stream& stream, const CudaMatmulCall& call) {
    if (try_run(stream, call)) return;
    const Key key = key_of(call);
    const auto plan = state_->plans.find(key);
    const std::string reason = plan == state_->plans.end()
                                   ? "its aux is not of multiples of 8 elements and 16 bytes"
                                   : cublasLtGetStatusString(plan->second.status);
    throw Error(ExitCode::internal, "cuBLASLt " + std::to_string(cublasLtGetVersion()) +
                                        " has no algorithm for the product " + describe(key) +
                                        ": " + reason);
}

bool CudaMatmul::try_run(Stream& stream, const CudaMatmulCall& call) {
    const Key key = key_of(call);
    check_call(call, key);
    if (key.rows == 0) return true;
    if (key.inner == 0) {
        TRIREME_CHECK(key.epilogue == MatmulEpilogue::none, "an empty product without epilogue");
        if (!call.accumulate) {
            check_cuda(cudaMemsetAsync(call.output.data, 0, call.output.bytes(), handle_of(stream)),
                       "zeroing device memory");
        }
        return true;
    }
    if (facts_of(key.epilogue).has_aux && !takes_aux(call.aux)) return false;
    const Plan& plan = state_->plan_for(stream, call, key);
    if (plan.status != CUBLAS_STATUS_SUCCESS) return false;
    check_cublas(state_->enqueue(plan, stream, call, plan.algorithm), "a matrix product");
    return true;
}

bool CudaMatmul::pays(Stream& stream, const CudaMatmulCall& call, const Variant& together,
                      const Variant& apart) {
    if (!state_->tune) return false;
    const Key key = key_of(call);
    check_call(call, key);
    Plan& plan = state_->plan_for(stream, call, key);
    if (plan.status != CUBLAS_STATUS_SUCCESS) return false;
    if (!plan.comparison) plan.comparison = state_->compare(stream, call, together, apart);
    return plan.comparison->together < plan.comparison->apart;
}

std::string CudaMatmul::describe_algorithms() const {
    std::ostringstream text;
    for (const auto& [key, plan] : state_->plans) {
        text << describe(key) << ": ";
        if (plan.status != CUBLAS_STATUS_SUCCESS) {
            text << "no algorithm, separate operations\n";
            continue;
        }
        const cublasLtMatmulAlgo_t& algorithm = plan.algorithm.algo;
        text << "algorithm " << config_text<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_ID)
             << ", tile " << config_text<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID)
             << ", stages " << config_text<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID)
             << ", split-k " << config_text<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM)
             << ", workspace " << plan.algorithm.workspaceSize << " bytes";
        if (plan.measured_algorithms > 0) {
            text << ", " << plan.microseconds << " us, the fastest of " << plan.measured_algorithms;
        }
        text << text_of(plan.comparison) << "\n";
    }
    return text.str();
}

Plan& CudaMatmul::State::plan_for(Stream& stream, const CudaMatmulCall& call, const Key& key) {
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
    workspace.reserve(workspace_bytes);
    Plan plan = describe_product(call);
    std::array<HeuristicResult, kCandidates> results{};
    const int count = find_algorithms(plan, key, std::span(results).first(tune ? kCandidates : 1));
    if (count > 0) plan.algorithm = results[0];
    if (tune && count > 0) {
        choose_fastest(plan, stream, call, std::span(results).first(static_cast<size_t>(count)));
    }
    return plans.emplace(key, std::move(plan)).first->second;
}

// The number of usable results, fastest first as the library believes.
int CudaMatmul::State::find_algorithms(Plan& plan, const Key& key,
                                       std::span<HeuristicResult> results) const {
    cublasLtMatmulPreference_t created = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&created), "describing what an algorithm may use");
    const Preference preference(created);
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes});
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.output_alignment);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.output_alignment);
    if (key.output == DType::bf16) {
        // Partial sums of a split inner dimension are kept in f32, so that the result is rounded
        // once.
        set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    }
    int count = 0;
    plan.status = cublasLtMatmulAlgoGetHeuristic(handle.get(), plan.operation.get(), plan.b.get(),
                                                 plan.a.get(), plan.output.get(), plan.output.get(),
                                                 preference.get(), static_cast<int>(results.size()),
                                                 results.data(), &count);
    // Combinations that it does not know are refused in one of these ways.
    if (plan.status == CUBLAS_STATUS_NOT_SUPPORTED || plan.status == CUBLAS_STATUS_INVALID_VALUE ||
        plan.status == CUBLAS_STATUS_ARCH_MISMATCH) {
        return 0;
    }
    check_cublas(plan.status, "the search for an algorithm");
    const auto usable = std::stable_partition(
        results.begin(), results.begin() + count,
        [](const HeuristicResult& result) { return result.state == CUBLAS_STATUS_SUCCESS; });
    if (usable == results.begin()) plan.status = CUBLAS_STATUS_NOT_SUPPORTED;
    return static_cast<int>(usable - results.begin());
}

void CudaMatmul::State::choose_fastest(Plan& plan, Stream& stream, const CudaMatmulCall& call,
                                       std::span<const HeuristicResult> candidates) {
    CudaMatmulCall trial = call;
    std::vector<Tensor*> written{&trial.output};
    if (facts_of(call.epilogue).writes_aux) written.push_back(&trial.aux);
    if (!move_into(trial_memory, written)) return;  // the library's first choice stands

    std::vector<GpuTimer::Way> ways;
    for (const HeuristicResult& candidate : candidates) {
        ways.push_back(
            [&, this] { return enqueue(plan, stream, trial, candidate) == CUBLAS_STATUS_SUCCESS; });
    }
    const auto times = timer.compare(stream, ways);
    plan.microseconds = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < times.size(); ++i) {
        if (!times[i]) continue;
        ++plan.measured_algorithms;
        if (*times[i] < plan.microseconds * kLessThanChance) {
            plan.microseconds = *times[i];
            plan.algorithm = candidates[i];
        }
    }
}

Plan::Comparison CudaMatmul::State::compare(Stream& stream, const CudaMatmulCall& call,
                                            const Variant& together, const Variant& apart) {
    constexpr double kUnknown = std::numeric_limits<double>::infinity();
    Tensor output = call.output, sums = call.bias;
    if (!move_into(comparison_memory, {&output, &sums})) return {kUnknown, kUnknown};
    const auto way_of = [&](const Variant& variant) -> GpuTimer::Way {
        return [&] {
            variant(output, sums);
            return true;
        };
    };
    const std::array ways{way_of(together), way_of(apart)};
    const auto times = timer.compare(stream, ways);
    return {times[0].value_or(kUnknown), times[1].value_or(kUnknown)};
}

cublasStatus_t CudaMatmul::State::enqueue(const Plan& plan, Stream& stream,
                                          const CudaMatmulCall& call,
                                          const HeuristicResult& algorithm) {
    set_addresses(plan, call);
    const float alpha = 1.0f;
    const float beta = call.accumulate ? 1.0f : 0.0f;
    return cublasLtMatmul(handle.get(), plan.operation.get(), &alpha, call.b.data, plan.b.get(),
                          call.a.data, plan.a.get(), &beta, call.output.data, plan.output.get(),
                          call.output.data, plan.output.get(), &algorithm.algo,
                          workspace.reserve(workspace_bytes), workspace_bytes, handle_of(stream));
}

}  // namespace trireme
