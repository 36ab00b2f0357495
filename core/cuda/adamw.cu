#include "core/adamw_factors.h"
#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

// Elements first to first + n. A null param: the master weights are the parameters.
template <typename T, int n>
__device__ void update_elements(const AdamWFactors& factors, const float* grad, float grad_scale,
                                float* master, float* m, float* v, T* param, int64_t first) {
    const Floats<n> gradient = load_floats<n>(grad + first);
    Floats<n> weight = load_floats<n>(master + first);
    Floats<n> first_moment = load_floats<n>(m + first);
    Floats<n> second_moment = load_floats<n>(v + first);
#pragma unroll
    for (int k = 0; k < n; ++k) {
        const AdamWElement e = adamw_update(factors, gradient[k] * grad_scale,
                                            {weight[k], first_moment[k], second_moment[k]});
        weight[k] = e.master;
        first_moment[k] = e.m;
        second_moment[k] = e.v;
    }
    store_floats<n>(master + first, weight);
    store_floats<n>(m + first, first_moment);
    store_floats<n>(v + first, second_moment);
    if (param) store_floats<n>(param + first, weight);
}

// In packs of n elements, and one by one what is left of them.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    adamw_kernel(AdamWFactors factors, const float* grad, const float* grad_scale, float* master,
                 float* m, float* v, T* param, int64_t elements) {
    const float scale = *grad_scale;
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        update_elements<T, n>(factors, grad, scale, master, m, v, param, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) update_elements<T, 1>(factors, grad, scale, master, m, v, param, rest);
}

}  // namespace

void CudaOps::adamw(Stream& stream, const AdamWStep& step, const Tensor& grad,
                    const Tensor& grad_scale, const Tensor& master, const Tensor& m,
                    const Tensor& v, const Tensor& param) {
    check_adamw(step, grad, grad_scale, master, m, v, param);
    const int64_t elements = grad.elements();
    if (elements == 0) return;
    const AdamWFactors factors = make_adamw_factors(step);
    // A pack of bf16 parameters beside one of f32 is smaller than 16 bytes.
    const bool packs = allows_packs<float>(0, {grad.data, master.data, m.data, v.data}) &&
                       reinterpret_cast<uintptr_t>(param.data) % (4 * size_of(param.dtype)) == 0;
    with_packs(param.dtype, 1, {}, [&]<typename T, int>() {
        const auto update = [&]<int n>() {
            launch(adamw_kernel<T, n>, element_grid((elements + n - 1) / n), handle_of(stream),
                   factors, grad.as<float>(), grad_scale.as<float>(), master.as<float>(),
                   m.as<float>(), v.as<float>(),
                   param.data == master.data ? nullptr : param.as<T>(), elements);
        };
        if (packs) {
            update.template operator()<4>();
        } else {
            update.template operator()<1>();
        }
    });
}

}  // namespace trireme
