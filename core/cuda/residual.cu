#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/random.h"

namespace trireme {

namespace {

struct Mask {
    Dropout dropout;
    float kept;  // factor of the elements that are kept
};

Mask make_mask(const Dropout& dropout) {
    TRIREME_CHECK(dropout.probability >= 0.0f && dropout.probability < 1.0f,
                  "a dropout probability in [0, 1)");
    return {dropout, 1.0f / (1.0f - dropout.probability)};
}

// Factors of the n elements from `first` on, counted from the tensor's first: 1 or a multiple of 4.
// Each Philox block of 4 words is made once; where the elements start within a block, there is one
// more of them, and the words move down to their places.
template <int n>
__device__ Floats<n> mask_factors(const Mask& mask, int64_t first) {
    constexpr int kBlocks = n == 1 ? 1 : n / 4 + 1;
    const uint64_t element = mask.dropout.first_element + static_cast<uint64_t>(first);
    const uint32_t skip = static_cast<uint32_t>(element % 4);
    const uint64_t stream = mask.dropout.stream;
    uint32_t words[4 * kBlocks] = {};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
        if (n > 1 && b == kBlocks - 1 && skip == 0) break;
        const uint64_t block = element / 4 + b;
        const auto four = philox(
            mask.dropout.key, {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)});
#pragma unroll
        for (int k = 0; k < 4; ++k) words[4 * b + k] = four[k];
    }
    // Two conditional moves, since an index known at run time only would put the words in memory.
#pragma unroll
    for (int k = 0; k + 1 < 4 * kBlocks; ++k) words[k] = skip & 1 ? words[k + 1] : words[k];
#pragma unroll
    for (int k = 0; k + 2 < 4 * kBlocks; ++k) words[k] = skip & 2 ? words[k + 2] : words[k];
    Floats<n> factors;
#pragma unroll
    for (int k = 0; k < n; ++k) {
        const bool keeps = uniform_from_bits(words[k]) >= mask.dropout.probability;
        factors[k] = keeps ? mask.kept : 0.0f;
    }
    return factors;
}

// bias may be null. out may be residual or y: a thread reads only the elements that it writes.
template <typename T, int n, bool drops>
__global__ void __launch_bounds__(kBlockThreads)
    residual_add_kernel(const T* residual, const T* y, const T* bias, Mask mask, T* out,
                        int64_t rows, int64_t cols) {
    const int64_t col = pack_of_row() * n;
    if (col >= cols) return;
    Floats<n> of_bias{};
    if (bias) of_bias = load_floats<n>(bias + col);
    for (int64_t row = first_row_of_thread(); row < rows; row += row_stride()) {
        const int64_t at = row * cols + col;
        Floats<n> sum = load_floats<n>(residual + at);
        Floats<n> addend = load_floats<n>(y + at);
#pragma unroll
        for (int k = 0; k < n; ++k) addend[k] += of_bias[k];
        if constexpr (drops) {
            const Floats<n> factors = mask_factors<n>(mask, at);
#pragma unroll
            for (int k = 0; k < n; ++k) addend[k] *= factors[k];
        }
#pragma unroll
        for (int k = 0; k < n; ++k) sum[k] += addend[k];
        store_floats<n>(out + at, sum);
    }
}

template <typename T, int n>
__device__ void drop_elements(const T* from, const Mask& mask, T* to, int64_t first) {
    Floats<n> values = load_floats<n>(from + first);
    const Floats<n> factors = mask_factors<n>(mask, first);
#pragma unroll
    for (int k = 0; k < n; ++k) values[k] *= factors[k];
    store_floats<n>(to + first, values);
}

// In packs of n elements, and one by one what is left of them.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    dropout_kernel(const T* from, Mask mask, T* to, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        drop_elements<T, n>(from, mask, to, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) drop_elements<T, 1>(from, mask, to, rest);
}

}  // namespace

void CudaOps::residual_add_forward(Stream& stream, const Tensor& residual, const Tensor& y,
                                   const Tensor& bias, const Dropout& dropout, const Tensor& out) {
    TRIREME_CHECK(same_matrix(residual, y) && same_matrix(residual, out),
                  "residual, addend and sum of one size and type");
    TRIREME_CHECK(!bias || is_vector(bias, y.dtype, y.cols()), "a bias of one row's size and type");
    const Mask mask = make_mask(dropout);
    const int64_t rows = y.rows();
    const int64_t cols = y.cols();
    // An absent bias has a null address, which is aligned.
    with_packs(y.dtype, cols, {residual.data, y.data, bias.data, out.data},
               [&]<typename T, int n>() {
                   const auto add = [&]<bool drops>() {
                       launch(residual_add_kernel<T, n, drops>, row_grid(rows, cols / n),
                              handle_of(stream), residual.as<T>(), y.as<T>(),
                              bias ? bias.as<T>() : nullptr, mask, out.as<T>(), rows, cols);
                   };
                   if (dropout.probability > 0.0f) {
                       add.template operator()<true>();
                   } else {
                       add.template operator()<false>();
                   }
               });
}

void CudaOps::dropout_apply(Stream& stream, const Tensor& dout, const Dropout& dropout,
                            const Tensor& dy) {
    TRIREME_CHECK(same_matrix(dout, dy), "dropout input and output of one size and type");
    const Mask mask = make_mask(dropout);
    if (dropout.probability == 0.0f) {
        if (dout.data != dy.data) copy(stream, dout, dy);
        return;
    }
    const int64_t elements = dy.elements();
    if (elements == 0) return;
    with_packs(dy.dtype, 0, {dout.data, dy.data}, [&]<typename T, int n>() {
        launch(dropout_kernel<T, n>, element_grid((elements + n - 1) / n), handle_of(stream),
               dout.as<T>(), mask, dy.as<T>(), elements);
    });
}

}  // namespace trireme
