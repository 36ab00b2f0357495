#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/cpu/attention.h"
#include "core/cpu/cpu_device.h"
#include "core/random.h"

namespace trireme::test {

using Doubles = std::vector<double>;

inline AttentionShape shape_of(int64_t batch, int64_t sequence, int heads, int kv_heads,
                               int head_dim, float dropout = 0.0f) {
    AttentionShape s;
    s.batch = batch, s.sequence = sequence;
    s.heads = s.heads_global = heads, s.kv_heads = kv_heads, s.head_dim = head_dim;
    s.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    s.dropout.probability = dropout;
    s.dropout.key = make_key(7, "attention");
    s.dropout.stream = 3;
    s.dropout.first_element = 12345678901ull;
    return s;
}

inline int64_t qkv_cols(const AttentionShape& s) {
    return static_cast<int64_t>(s.heads + 2 * s.kv_heads) * s.head_dim;
}
inline size_t qkv_size(const AttentionShape& s) {
    return static_cast<size_t>(s.batch * s.sequence * qkv_cols(s));
}
inline size_t out_size(const AttentionShape& s) {
    return static_cast<size_t>(s.batch * s.sequence * s.heads * s.head_dim);
}

inline double keep_factor(const AttentionShape& s, int64_t b, int64_t h, int64_t q, int64_t k) {
    if (s.dropout.probability == 0.0f) return 1.0;
    const uint64_t element =
        s.dropout.first_element +
        static_cast<uint64_t>(((b * s.heads_global + h) * s.sequence + q) * s.sequence + k);
    const float uniform = uniform_from_bits(philox_word(s.dropout.key, s.dropout.stream, element));
    return uniform >= s.dropout.probability ? 1.0 / (1.0 - double(s.dropout.probability)) : 0.0;
}

// Attention as the textbook writes it, in double, with the whole matrix of one row at a time.
struct Reference {
    Reference(const AttentionShape& s, const Doubles& qkv_, const Doubles* dout_ = nullptr)
        : out(out_size(s)),
          lse(static_cast<size_t>(s.batch * s.heads * s.sequence)),
          dqkv(qkv_size(s)) {
        const int64_t T = s.sequence, D = s.head_dim, row = qkv_cols(s);
        for (int64_t b = 0; b < s.batch; ++b) {
            for (int64_t h = 0; h < s.heads; ++h) {
                const int64_t kv = h / (s.heads / s.kv_heads);
                const auto at = [&](int64_t t, int64_t head, int64_t d) {
                    return static_cast<size_t>((b * T + t) * row + head * D + d);
                };
                const int64_t key = s.heads + kv, value = s.heads + s.kv_heads + kv;
                for (int64_t q = 0; q < T; ++q) {
                    Doubles p(static_cast<size_t>(q + 1)), dp(p.size());
                    double top = -1e300;
                    const int64_t first =
                        s.document_begin ? s.document_begin.as<int32_t>()[b * T + q] : 0;
                    std::fill(p.begin(), p.end(), -INFINITY);
                    for (int64_t k = first; k <= q; ++k) {
                        double dot = 0;
                        for (int64_t d = 0; d < D; ++d) {
                            dot += qkv_[at(q, h, d)] * qkv_[at(k, key, d)];
                        }
                        p[static_cast<size_t>(k)] = dot * double(s.scale);
                        top = std::max(top, p[static_cast<size_t>(k)]);
                    }
                    double sum = 0;
                    for (double& x : p) sum += x = std::exp(x - top);
                    for (double& x : p) x /= sum;
                    lse[static_cast<size_t>((b * s.heads + h) * T + q)] = top + std::log(sum);
                    const auto out_at = [&](int64_t d) {
                        return static_cast<size_t>(((b * T + q) * s.heads + h) * D + d);
                    };
                    double delta = 0;
                    for (int64_t k = 0; k <= q; ++k) {
                        const double kept = keep_factor(s, b, h, q, k);
                        const auto ki = static_cast<size_t>(k);
                        for (int64_t d = 0; d < D; ++d) {
                            out[out_at(d)] += p[ki] * kept * qkv_[at(k, value, d)];
                            if (!dout_) continue;
                            const double g = (*dout_)[out_at(d)];
                            dp[ki] += kept * g * qkv_[at(k, value, d)];
                            dqkv[at(k, value, d)] += p[ki] * kept * g;
                        }
                        delta += p[ki] * dp[ki];
                    }
                    if (!dout_) continue;
                    for (int64_t k = 0; k <= q; ++k) {
                        const auto ki = static_cast<size_t>(k);
                        const double ds = p[ki] * (dp[ki] - delta) * double(s.scale);
                        for (int64_t d = 0; d < D; ++d) {
                            dqkv[at(q, h, d)] += ds * qkv_[at(k, key, d)];
                            dqkv[at(k, key, d)] += ds * qkv_[at(q, h, d)];
                        }
                    }
                }
            }
        }
    }
    Doubles out, lse, dqkv;
};

// The operation's tensors, and what it made of random input.
template <typename T>
struct Run {
    Run(const AttentionShape& s, int threads, const Doubles& qkv_, const Doubles& dout_,
        bool without_amx = false)
        : qkv(qkv_.size()),
          dqkv(qkv_.size()),
          out(dout_.size()),
          dout(dout_.size()),
          lse(static_cast<size_t>(s.batch * s.heads * s.sequence), -1.0f) {
        for (size_t i = 0; i < qkv.size(); ++i) qkv[i] = T(static_cast<float>(qkv_[i]));
        for (size_t i = 0; i < dout.size(); ++i) dout[i] = T(static_cast<float>(dout_[i]));
        std::fill(dqkv.begin(), dqkv.end(), T(99.0f));
        std::fill(out.begin(), out.end(), T(99.0f));
        CpuDevice device(threads);
        const Shape rows{s.batch, s.sequence, qkv_cols(s)};
        const Shape out_rows{s.batch, s.sequence, static_cast<int64_t>(s.heads) * s.head_dim};
        const DType type = DTypeOf<T>::value;
        const Tensor q(qkv.data(), type, rows), dq(dqkv.data(), type, rows);
        const Tensor o(out.data(), type, out_rows), g(dout.data(), type, out_rows);
        const Tensor l(lse.data(), DType::f32, Shape{s.batch, s.heads, s.sequence});
        if (without_amx) {
            CpuAttention attention(threads, false);
            attention.forward(s, q, o, l);
            attention.backward(s, g, q, o, l, dq);
        } else {
            device.ops().attention_forward(device.compute(), s, q, o, l);
            device.ops().attention_backward(device.compute(), s, g, q, o, l, dq);
        }
    }
    std::vector<T> qkv, dqkv, out, dout;
    std::vector<float> lse;
};

// Documents of a batch of sequences, and the tensor that says where they begin.
struct Documents {
    explicit Documents(const AttentionShape& s)
        : begins(static_cast<size_t>(s.batch * s.sequence)), tokens(s.sequence) {}
    // Of random lengths; the n-th sequence in another way.
    Documents(const AttentionShape& s, double mean_length, uint32_t seed) : Documents(s) {
        std::mt19937 random(seed);
        std::uniform_real_distribution<double> uniform(0.0, 1.0);
        for (int64_t i = 0; i < s.batch * s.sequence; ++i) {
            if (i % tokens == 0) continue;
            const auto at = static_cast<size_t>(i);
            begins[at] = begins[at - 1];
            if (uniform(random) * mean_length < 1.0) begins[at] = static_cast<int32_t>(i % tokens);
        }
    }
    AttentionShape in(AttentionShape s) {
        s.document_begin = Tensor(begins.data(), DType::i32, {s.batch, s.sequence});
        return s;
    }
    std::vector<int32_t> begins;
    int64_t tokens;
};

// Values that both types hold exactly, so that input rounding is no part of the error.
inline Doubles random_values(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    Doubles values(count);
    for (double& v : values) v = static_cast<double>(float(bf16(normal(random))));
    return values;
}

template <typename A, typename B>
double largest_difference(const A& a, const B& b) {
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(double(float(a[i])) - double(b[i]));
        if (!(difference <= worst)) worst = difference;  // NaN counts
    }
    return worst;
}

template <typename T>
std::vector<uint8_t> bytes_of(const std::vector<T>& v) {
    const auto* first = reinterpret_cast<const uint8_t*>(v.data());
    return {first, first + v.size() * sizeof(T)};
}

template <typename T>
void check_against_reference(const AttentionShape& s, double bound, bool without_amx = false) {
    const Doubles qkv = random_values(qkv_size(s), 1);
    const Doubles dout = random_values(out_size(s), 2);
    const Run<T> run(s, 2, qkv, dout, without_amx);
    const Reference reference(s, qkv, &dout);
    INFO("B " << s.batch << " T " << s.sequence << " heads " << s.heads << "/" << s.kv_heads
              << " D " << s.head_dim << " dropout " << s.dropout.probability);
    double size = 1;
    for (double x : reference.dqkv) size = std::max(size, std::abs(x));
    CHECK(largest_difference(run.out, reference.out) < bound * 4);
    CHECK(largest_difference(run.lse, reference.lse) < 4e-6);
    CHECK(largest_difference(run.dqkv, reference.dqkv) < bound * size);
}

}  // namespace trireme::test
