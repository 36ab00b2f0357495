#pragma once

#include <cstdint>

#include "core/cpu/attention_dropout.h"
#include "core/cpu/attention_layout.h"

// The arithmetic of attention on one query's row of a block, in f32, once its products are there.
namespace trireme::attention {

inline void multiply_by(const float* factors, float* row) {
#pragma omp simd
    for (int j = 0; j < kKeys; ++j) row[j] *= factors[j];
}

// In: a row of scores, still to be multiplied by `scale`, and of the gradient of the dropped-out
// probabilities. Out: the dropped-out probabilities and the gradient of the scaled scores, 0 for
// keys before `hidden` and from `visible` on.
inline void backward_row(int hidden, int visible, float scale, float lse, float delta,
                         const float* factors, float* scores, float* gradient) {
    if (factors) {
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) {
            const float probability = exp_of_negative(scale * scores[j] - lse);
            scores[j] = probability * factors[j];
            gradient[j] = probability * (gradient[j] * factors[j] - delta);
        }
    } else {
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) {
            const float probability = exp_of_negative(scale * scores[j] - lse);
            scores[j] = probability;
            gradient[j] = probability * (gradient[j] - delta);
        }
    }
    for (int j = 0; j < hidden; ++j) scores[j] = gradient[j] = 0.0f;
    for (int j = visible; j < kKeys; ++j) scores[j] = gradient[j] = 0.0f;
}

// The dropout factors of one query's keys from first_key on, put into `factors`; null without
// dropout.
inline const float* row_factors(const Sizes& s, int64_t b, int64_t head, int64_t query,
                                int64_t first_key, float* factors) {
    const Dropout& dropout = s.shape.dropout;
    if (!(dropout.probability > 0.0f)) return nullptr;
    dropout_factors<kKeys>(dropout.key, dropout.stream,
                           s.dropout_element(b, head, query, first_key), dropout.probability,
                           factors);
    return factors;
}

}  // namespace trireme::attention
