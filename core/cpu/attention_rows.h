#pragma once

#include <limits>

#include "core/cpu/attention_dropout.h"
#include "core/cpu/attention_layout.h"

// The arithmetic of attention on one query's row of a block, in f32, once its products are there.
namespace trireme::attention {

inline void multiply_by(const float* factors, float* row) {
#pragma omp simd
    for (int j = 0; j < kKeys; ++j) row[j] *= factors[j];
}

// Turns a row of scores into exp(score - maximum) and brings the row's running maximum, sum and
// output up to date. Keys from `visible` on get 0.
inline void softmax_row(const Sizes& s, int visible, bool first, float* scores, float& maximum,
                        float& sum, float* out) {
    for (int j = visible; j < kKeys; ++j) scores[j] = -std::numeric_limits<float>::infinity();
    float top = first ? -std::numeric_limits<float>::infinity() : maximum;
#pragma omp simd reduction(max : top)
    for (int j = 0; j < kKeys; ++j) top = scores[j] > top ? scores[j] : top;
    float added = 0.0f;
#pragma omp simd reduction(+ : added)
    for (int j = 0; j < kKeys; ++j) {
        scores[j] = exp_of_negative(scores[j] - top);
        added += scores[j];
    }
    if (first) {
        sum = added;
    } else if (top == maximum) {
        sum += added;
    } else {
        const float shrink = exp_of_negative(maximum - top);
        sum = sum * shrink + added;
#pragma omp simd
        for (int64_t d = 0; d < s.padded; ++d) out[d] *= shrink;
    }
    maximum = top;
}

// In: a row of scores, still to be multiplied by `scale`, and of the gradient of the dropped-out
// probabilities. Out: the dropped-out probabilities and the gradient of the scaled scores.
inline void backward_row(int visible, float scale, float lse, float delta, const float* factors,
                         float* scores, float* gradient) {
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
