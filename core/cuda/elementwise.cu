#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"

namespace trireme {

namespace {

constexpr int kMostPartials = 1024;

template <typename From, typename To, int n>
__global__ void convert_kernel(const From* from, To* to, int64_t packs) {
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        store_floats<n>(to + i * n, load_floats<n>(from + i * n));
    }
}

template <typename From, typename To, int n>
__global__ void add_kernel(const From* x, To* y, int64_t packs) {
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        const Floats<n> addend = load_floats<n>(x + i * n);
        Floats<n> sum = load_floats<n>(y + i * n);
#pragma unroll
        for (int k = 0; k < n; ++k) sum[k] += addend[k];
        store_floats<n>(y + i * n, sum);
    }
}

// Calls body with both element types and the elements an access: 4 of them fit either type.
template <typename Body>
void with_two_types(const Tensor& x, const Tensor& y, const Body& body) {
    const auto with_second = [&]<typename From>() {
        const bool packs =
            x.elements() % 4 == 0 && (reinterpret_cast<uintptr_t>(x.data) |
                                      reinterpret_cast<uintptr_t>(y.data)) % 16 == 0;
        with_packs(y.dtype, 1, {}, [&]<typename To, int>() {
            if (packs) {
                body.template operator()<From, To, 4>();
            } else {
                body.template operator()<From, To, 1>();
            }
        });
    };
    with_packs(x.dtype, 1, {}, [&]<typename From, int>() {
        with_second.template operator()<From>();
    });
}

// Sums in f64, in an order given by n alone: each block a partial sum, one block their total.
template <bool squares>
__global__ void partial_sum_kernel(const float* x, int64_t n, double* partials) {
    double sum = 0.0;
    for (int64_t i = grid_first(); i < n; i += grid_stride()) {
        const double value = static_cast<double>(x[i]);
        sum += squares ? value * value : value;
    }
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
    TRIREME_CHECK(x.dtype == DType::f32, "f32 values to sum");
    TRIREME_CHECK(is_vector(total, DType::f64, 1), "one f64 total");
    const int64_t n = x.elements();
    if (n == 0) return;
    // A few values a thread, so that small tensors do not pay for a thousand blocks.
    const int64_t blocks =
        std::min<int64_t>(kMostPartials, (n + 8 * kBlockThreads - 1) / (8 * kBlockThreads));
    auto* partials = scratch.reserve_elements<double>(blocks);
    launch(partial_sum_kernel<squares>, {dim3(static_cast<unsigned>(blocks)), dim3(kBlockThreads)},
           stream, x.as<float>(), n, partials);
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
    TRIREME_CHECK(from.elements() == to.elements(), "copies of the same number of elements");
    if (to.elements() == 0) return;
    if (from.dtype == to.dtype) {
        stream.copy(to.data, from.data, to.bytes());
        return;
    }
    with_two_types(from, to, [&]<typename From, typename To, int n>() {
        const int64_t packs = to.elements() / n;
        launch(convert_kernel<From, To, n>, element_grid(packs), handle_of(stream),
               from.as<From>(), to.as<To>(), packs);
    });
}

void CudaOps::add(Stream& stream, const Tensor& x, const Tensor& y) {
    TRIREME_CHECK(x.elements() == y.elements(), "addends of the same number of elements");
    if (y.elements() == 0) return;
    with_two_types(x, y, [&]<typename From, typename To, int n>() {
        const int64_t packs = y.elements() / n;
        launch(add_kernel<From, To, n>, element_grid(packs), handle_of(stream), x.as<From>(),
               y.as<To>(), packs);
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
    TRIREME_CHECK(is_vector(squared_norm, DType::f64, 1) && is_vector(scale, DType::f32, 1),
                  "one f64 squared norm and one f32 scale");
    launch(clip_scale_kernel, {dim3(1), dim3(1)}, handle_of(stream), squared_norm.as<double>(),
           max_norm, scale.as<float>());
}

}  // namespace trireme
