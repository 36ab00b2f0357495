#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

constexpr int kMostPartials = 1024;

template <typename From, typename To, int n>
__device__ void convert_elements(const From* from, To* to, int64_t first) {
    store_floats<n>(to + first, load_floats<n>(from + first));
}

// In packs of n elements, and one by one what is left of them.
template <typename From, typename To, int n>
__global__ void __launch_bounds__(kBlockThreads)
    convert_kernel(const From* from, To* to, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        convert_elements<From, To, n>(from, to, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) convert_elements<From, To, 1>(from, to, rest);
}

template <typename From, typename To, int n>
__device__ void add_elements(const From* x, To* y, int64_t first) {
    const Floats<n> addend = load_floats<n>(x + first);
    Floats<n> sum = load_floats<n>(y + first);
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += addend[k];
    store_floats<n>(y + first, sum);
}

template <typename From, typename To, int n>
__global__ void __launch_bounds__(kBlockThreads)
    add_kernel(const From* x, To* y, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        add_elements<From, To, n>(x, y, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) add_elements<From, To, 1>(x, y, rest);
}

// Calls body with both element types and the elements an access: as many as fill 16 bytes of the
// wider type, so that a warp's accesses to either tensor adjoin.
template <typename Body>
void with_two_types(const Tensor& x, const Tensor& y, const Body& body) {
    const bool packs =
        (reinterpret_cast<uintptr_t>(x.data) | reinterpret_cast<uintptr_t>(y.data)) % 16 == 0;
    with_packs(x.dtype, 1, {}, [&]<typename From, int>() {
        with_packs(y.dtype, 1, {}, [&]<typename To, int>() {
            constexpr int kTogether = std::min(kPackElements<From>, kPackElements<To>);
            if (packs) {
                body.template operator()<From, To, kTogether>();
            } else {
                body.template operator()<From, To, 1>();
            }
        });
    });
}

constexpr int kSummedTogether = 4;

// Sums in f64, in an order given by the number of elements alone: each block a partial sum, one
// block their total. A thread takes every so many fours of elements, read in one access or, with
// n = 1, in four.
template <bool squares, int n>
__global__ void __launch_bounds__(kBlockThreads)
    partial_sum_kernel(const float* x, int64_t elements, double* partials) {
    double sum = 0.0;
    const auto add = [&sum](float element) {
        const double value = static_cast<double>(element);
        sum += squares ? value * value : value;
    };
    const int64_t fours = elements / kSummedTogether;
#pragma unroll 4
    for (int64_t i = grid_first(); i < fours; i += grid_stride()) {
#pragma unroll
        for (int from = 0; from < kSummedTogether; from += n) {
            const Floats<n> values = load_floats<n>(x + i * kSummedTogether + from);
#pragma unroll
            for (int k = 0; k < n; ++k) add(values[k]);
        }
    }
    const int64_t rest = fours * kSummedTogether + grid_first();
    if (rest < elements) add(x[rest]);
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void add_partials_kernel(const double* partials, int n, double* total) {
    double sum = 0.0;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
        sum += partials[i];
    }
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) *total += sum;
}

template <bool squares>
void add_total(cudaStream_t stream, Scratch& scratch, const Tensor& x, const Tensor& total) {
    check_add_total(x, total);
    const int64_t n = x.elements();
    if (n == 0) return;
    // A few values a thread, so that small tensors do not pay for a thousand blocks.
    const int64_t blocks = std::min<int64_t>(kMostPartials, divide_up(n, 8 * kBlockThreads));
    auto* partials = scratch.reserve_elements<double>(blocks);
    launch(allows_packs<float>(0, {x.data}) ? partial_sum_kernel<squares, kSummedTogether>
                                            : partial_sum_kernel<squares, 1>,
           {dim3(static_cast<unsigned>(blocks)), dim3(kBlockThreads)}, stream, x.as<float>(), n,
           partials);
    launch(add_partials_kernel, {dim3(1), dim3(kBlockThreads)}, stream, partials,
           static_cast<int>(blocks), total.as<double>());
}

__global__ void clip_scale_kernel(const double* squared_norm, float max_norm, float* scale) {
    const double ratio = static_cast<double>(max_norm) / sqrt(*squared_norm);
    // A NaN norm gives a NaN scale: it must not pass for "no clipping".
    const bool unclipped = max_norm <= 0.0f || ratio >= 1.0;
    *scale = unclipped ? 1.0f : static_cast<float>(ratio);
}

}  // namespace

void CudaOps::fill_zero(Stream& stream, const Tensor& x) {
    if (x.bytes() == 0) return;
    check_cuda(cudaMemsetAsync(x.data, 0, x.bytes(), handle_of(stream)), "zeroing device memory");
}

void CudaOps::copy(Stream& stream, const Tensor& from, const Tensor& to) {
    check_copy(from, to);
    if (to.elements() == 0) return;
    if (from.dtype == to.dtype) {
        stream.copy(to.data, from.data, to.bytes());
        return;
    }
    const int64_t elements = to.elements();
    with_two_types(from, to, [&]<typename From, typename To, int n>() {
        if constexpr (!std::is_same_v<From, To>) {
            launch(convert_kernel<From, To, n>, element_grid(divide_up(elements, n)),
                   handle_of(stream), from.as<From>(), to.as<To>(), elements);
        }
    });
}

void CudaOps::add(Stream& stream, const Tensor& x, const Tensor& y) {
    check_add(x, y);
    if (y.elements() == 0) return;
    const int64_t elements = y.elements();
    with_two_types(x, y, [&]<typename From, typename To, int n>() {
        launch(add_kernel<From, To, n>, element_grid(divide_up(elements, n)), handle_of(stream),
               x.as<From>(), y.as<To>(), elements);
    });
}

void CudaOps::add_sum(Stream& stream, const Tensor& x, const Tensor& total) {
    add_total<false>(handle_of(stream), scratch_, x, total);
}

void CudaOps::add_squared_norm(Stream& stream, const Tensor& x, const Tensor& total) {
    add_total<true>(handle_of(stream), scratch_, x, total);
}

void CudaOps::clip_scale(Stream& stream, const Tensor& squared_norm, float max_norm,
                         const Tensor& scale) {
    check_clip_scale(squared_norm, scale);
    launch(clip_scale_kernel, {dim3(1), dim3(1)}, handle_of(stream), squared_norm.as<double>(),
           max_norm, scale.as<float>());
}

}  // namespace trireme
