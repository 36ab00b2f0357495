#include "core/adamw_factors.h"
#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

template <typename T>
void update_range(const AdamWFactors& factors, const float* grad, float grad_scale, float* master,
                  float* m, float* v, T* param, int64_t n) {
    const AdamWFactors f = factors;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const AdamWElement e = adamw_update(f, grad[i] * grad_scale, {master[i], m[i], v[i]});
        master[i] = e.master;
        m[i] = e.m;
        v[i] = e.v;
        store(param, i, e.master);
    }
}

}  // namespace

void CpuOps::adamw(Stream&, const AdamWStep& step, const Tensor& grad, const Tensor& grad_scale,
                   const Tensor& master, const Tensor& m, const Tensor& v, const Tensor& param) {
    check_adamw(step, grad, grad_scale, master, m, v, param);
    const int64_t n = grad.elements();
    const AdamWFactors factors = make_adamw_factors(step);
    const float scale = *grad_scale.as<float>();
    with_activation_type(param.dtype, [&]<typename T>() {
        const float* g = grad.as<float>();
        float* weights = master.as<float>();
        float* first = m.as<float>();
        float* second = v.as<float>();
        T* rounded = param.as<T>();
        parallel_ranges(threads_, n, kElementGrain, [=](int64_t begin, int64_t end) {
            update_range(factors, g + begin, scale, weights + begin, first + begin, second + begin,
                         rounded + begin, end - begin);
        });
    });
}

}  // namespace trireme
