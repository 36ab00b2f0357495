#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "core/cpu/attention.h"
#include "core/cpu/attention_block.h"
#include "core/cpu/attention_dropout.h"
#include "core/cpu/cpu_device.h"
#include "core/random.h"

using namespace trireme;

namespace {

using Doubles = std::vector<double>;

AttentionShape shape_of(int64_t batch, int64_t sequence, int heads, int kv_heads, int head_dim,
                        float dropout = 0.0f) {
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

int64_t qkv_cols(const AttentionShape& s) {
    return static_cast<int64_t>(s.heads + 2 * s.kv_heads) * s.head_dim;
}
size_t qkv_size(const AttentionShape& s) {
    return static_cast<size_t>(s.batch * s.sequence * qkv_cols(s));
}
size_t out_size(const AttentionShape& s) {
    return static_cast<size_t>(s.batch * s.sequence * s.heads * s.head_dim);
}

double keep_factor(const AttentionShape& s, int64_t b, int64_t h, int64_t q, int64_t k) {
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
Doubles random_values(size_t count, uint32_t seed) {
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

}  // namespace

TEST_CASE("attention and its gradient equal a plain double implementation", "[core][attention]") {
    const float dropout = GENERATE(0.0f, 0.3f);
    for (const AttentionShape& s :
         {shape_of(1, 1, 1, 1, 1, dropout), shape_of(2, 1, 2, 1, 6, dropout),
          shape_of(2, 3, 6, 2, 6, dropout), shape_of(1, 17, 3, 3, 32, dropout),
          shape_of(2, 63, 2, 2, 64, dropout), shape_of(1, 64, 4, 2, 80, dropout),
          shape_of(2, 65, 6, 2, 17, dropout), shape_of(1, 130, 2, 1, 128, dropout),
          shape_of(1, 257, 3, 1, 65, dropout)}) {
        check_against_reference<float>(s, 4e-6);
        // bf16 keeps 8 bits of the output, which enters the gradient through delta; with AMX also
        // of probabilities and of gradients of scores.
        check_against_reference<bf16>(s, 8e-3);
        check_against_reference<bf16>(s, 8e-3, true);
    }
}

TEST_CASE("attention among the tokens of a document equals a plain double implementation",
          "[core][attention]") {
    const float dropout = GENERATE(0.0f, 0.3f);
    for (const AttentionShape& s :
         {shape_of(2, 1, 2, 1, 6, dropout), shape_of(2, 5, 6, 2, 6, dropout),
          shape_of(2, 63, 2, 2, 32, dropout), shape_of(2, 65, 6, 2, 17, dropout),
          shape_of(1, 128, 2, 1, 64, dropout), shape_of(1, 257, 3, 1, 20, dropout)}) {
        // Single tokens, some a block, and about one in three blocks.
        for (const double mean_length : {1.0, 1.5, 20.0, 200.0}) {
            CAPTURE(mean_length);
            Documents documents(s, mean_length, 17);
            check_against_reference<float>(documents.in(s), 4e-6);
            check_against_reference<bf16>(documents.in(s), 8e-3);
            check_against_reference<bf16>(documents.in(s), 8e-3, true);
        }
    }
}

TEST_CASE("documents may begin at the edges of attention's blocks", "[core][attention]") {
    const AttentionShape s = shape_of(1, 260, 2, 1, 16);
    for (const int32_t edge : {63, 64, 65, 127, 128, 129, 192, 259}) {
        CAPTURE(edge);
        Documents documents(s);
        std::fill(documents.begins.begin() + edge, documents.begins.end(), edge);
        check_against_reference<float>(documents.in(s), 4e-6);
        check_against_reference<bf16>(documents.in(s), 8e-3);
    }
}

TEMPLATE_TEST_CASE("one document for a whole sequence changes no bit of attention",
                   "[core][attention]", float, bf16) {
    const AttentionShape s = shape_of(2, 130, 4, 2, 16, 0.1f);
    const Doubles qkv = random_values(qkv_size(s), 15);
    const Doubles dout = random_values(out_size(s), 16);
    Documents documents(s);
    for (const bool without_amx : {false, true}) {
        const Run<TestType> absent(s, 2, qkv, dout, without_amx);
        const Run<TestType> one(documents.in(s), 2, qkv, dout, without_amx);
        CHECK(bytes_of(one.out) == bytes_of(absent.out));
        CHECK(bytes_of(one.lse) == bytes_of(absent.lse));
        CHECK(bytes_of(one.dqkv) == bytes_of(absent.dqkv));
    }
}

TEMPLATE_TEST_CASE("a document's attention has the same bits whatever stands before and behind it",
                   "[core][attention]", float, bf16) {
    const AttentionShape s = shape_of(1, 300, 2, 1, 20);
    constexpr int64_t kBegin = 70, kEnd = 230;
    Documents documents(s);
    for (int64_t t = kBegin; t < s.sequence; ++t) {
        documents.begins[static_cast<size_t>(t)] = static_cast<int32_t>(t < kEnd ? kBegin : kEnd);
    }
    Doubles qkv = random_values(qkv_size(s), 18);
    Doubles dout = random_values(out_size(s), 19);
    const Run<TestType> before(documents.in(s), 2, qkv, dout);
    const Doubles other = random_values(qkv_size(s), 20),
                  other_dout = random_values(out_size(s), 21);
    const auto exchange_outside = [&](Doubles& values, const Doubles& by, int64_t cols) {
        for (size_t i = 0; i < values.size(); ++i) {
            const int64_t t = static_cast<int64_t>(i) / cols;
            if (t < kBegin || t >= kEnd) values[i] = 8 * by[i];
        }
    };
    exchange_outside(qkv, other, qkv_cols(s));
    exchange_outside(dout, other_dout, static_cast<int64_t>(s.heads) * s.head_dim);
    const Run<TestType> after(documents.in(s), 2, qkv, dout);
    const auto inside = [&](const std::vector<TestType>& values) {
        const size_t cols = values.size() / static_cast<size_t>(s.sequence);
        return bytes_of(std::vector<TestType>(values.begin() + kBegin * static_cast<int64_t>(cols),
                                              values.begin() + kEnd * static_cast<int64_t>(cols)));
    };
    CHECK(inside(after.out) == inside(before.out));
    CHECK(inside(after.dqkv) == inside(before.dqkv));
    CHECK(bytes_of(after.dqkv) != bytes_of(before.dqkv));
}

TEST_CASE("the gradient of attention equals finite differences", "[core][attention]") {
    const float dropout = GENERATE(0.0f, 0.25f);
    const AttentionShape s = shape_of(1, 5, 4, 2, 3, dropout);
    Doubles qkv = random_values(qkv_size(s), 3);
    const Doubles dout = random_values(out_size(s), 4);
    const Run<float> run(s, 1, qkv, dout);
    const auto loss = [&] {
        const Reference r(s, qkv);
        double sum = 0;
        for (size_t i = 0; i < dout.size(); ++i) sum += r.out[i] * dout[i];
        return sum;
    };
    constexpr double kStep = 1e-5;
    for (size_t i = 0; i < qkv.size(); ++i) {
        const double before = qkv[i];
        qkv[i] = before + kStep;
        const double up = loss();
        qkv[i] = before - kStep;
        const double down = loss();
        qkv[i] = before;
        CHECK(double(run.dqkv[i]) == Approx((up - down) / (2 * kStep)).margin(5e-6));
    }
}

TEMPLATE_TEST_CASE("attention has the same bits for any number of threads", "[core][attention]",
                   float, bf16) {
    // One key/value head: with several threads its blocks are dealt out.
    for (const AttentionShape& s : {shape_of(1, 257, 2, 1, 20, 0.1f), shape_of(3, 130, 4, 2, 16)}) {
        const Doubles qkv = random_values(qkv_size(s), 5);
        const Doubles dout = random_values(out_size(s), 6);
        Documents documents(s, 90.0, 22);
        for (const AttentionShape& shape : {s, documents.in(s)}) {
            const Run<TestType> one(shape, 1, qkv, dout);
            for (int threads : {2, 3, 8}) {
                const Run<TestType> several(shape, threads, qkv, dout);
                CHECK(bytes_of(one.out) == bytes_of(several.out));
                CHECK(bytes_of(one.lse) == bytes_of(several.lse));
                CHECK(bytes_of(one.dqkv) == bytes_of(several.dqkv));
            }
        }
    }
}

TEST_CASE("bf16 attention keeps its error bound over many blocks", "[core][attention]") {
    // Nine blocks, the last not whole; a head dimension of one and a half panels.
    for (int head_dim : {48, 64}) {
        const AttentionShape s = shape_of(1, 550, 2, 1, head_dim);
        check_against_reference<bf16>(s, 8e-3);
    }
}

TEST_CASE("what scratch memory held before does not reach the results", "[core][attention]") {
    const AttentionShape s = shape_of(1, 71, 2, 1, 33, 0.2f);
    const Doubles qkv = random_values(qkv_size(s), 13);
    const Doubles dout = random_values(out_size(s), 14);
    const Run<bf16> fresh(s, 1, qkv, dout);
    CpuDevice device(1);
    // Sums of infinities leave NaN wherever a larger shape has written.
    const AttentionShape large = shape_of(1, 200, 2, 1, 80);
    std::vector<bf16> bad(qkv_size(large), bf16(INFINITY)), bad_out(out_size(large));
    std::vector<float> bad_lse(400);
    std::vector<bf16> qkv16(fresh.qkv), out(out_size(s)), dqkv(qkv_size(s));
    std::vector<float> lse(fresh.lse.size());
    const auto tensor = [](auto& v, int64_t tokens) {
        using T = typename std::decay_t<decltype(v)>::value_type;
        return Tensor(v.data(), DTypeOf<T>::value,
                      Shape{1, tokens, static_cast<int64_t>(v.size()) / tokens});
    };
    const auto poison = [&] {
        std::vector<bf16> gradient(bad.size());
        device.ops().attention_forward(device.compute(), large, tensor(bad, 200),
                                       tensor(bad_out, 200), tensor(bad_lse, 200));
        device.ops().attention_backward(device.compute(), large, tensor(bad_out, 200),
                                        tensor(bad, 200), tensor(bad_out, 200),
                                        tensor(bad_lse, 200), tensor(gradient, 200));
        REQUIRE(std::isnan(float(gradient[0])));
    };
    poison();
    device.ops().attention_forward(device.compute(), s, tensor(qkv16, 71), tensor(out, 71),
                                   tensor(lse, 71));
    poison();
    std::vector<bf16> dout16(fresh.dout);
    device.ops().attention_backward(device.compute(), s, tensor(dout16, 71), tensor(qkv16, 71),
                                    tensor(out, 71), tensor(lse, 71), tensor(dqkv, 71));
    CHECK(bytes_of(out) == bytes_of(fresh.out));
    CHECK(bytes_of(lse) == bytes_of(fresh.lse));
    CHECK(bytes_of(dqkv) == bytes_of(fresh.dqkv));
}

TEST_CASE("heads split over two ranks give what one rank gives, dropout included",
          "[core][attention]") {
    const int64_t T = 70, D = 10;
    const AttentionShape whole = shape_of(2, T, 6, 2, D, 0.2f);
    const Doubles qkv = random_values(qkv_size(whole), 8);
    const Doubles dout = random_values(out_size(whole), 9);
    const Run<float> all(whole, 1, qkv, dout);
    for (int rank = 0; rank < 2; ++rank) {
        AttentionShape half = whole;
        half.heads = 3, half.kv_heads = 1;
        half.dropout.first_element += static_cast<uint64_t>(rank * 3 * T * T);
        // Columns of this rank's query heads, key head and value head.
        const auto column = [&](int64_t c) {
            if (c < 3 * D) return c + rank * 3 * D;
            return c < 4 * D ? 6 * D + rank * D + c - 3 * D : 8 * D + rank * D + c - 4 * D;
        };
        Doubles part_qkv(qkv_size(half)), part_dout(out_size(half));
        for (int64_t t = 0; t < 2 * T; ++t) {
            for (int64_t c = 0; c < 5 * D; ++c) {
                part_qkv[static_cast<size_t>(t * 5 * D + c)] =
                    qkv[static_cast<size_t>(t * 10 * D + column(c))];
            }
            for (int64_t c = 0; c < 3 * D; ++c) {
                part_dout[static_cast<size_t>(t * 3 * D + c)] =
                    dout[static_cast<size_t>(t * 6 * D + column(c))];
            }
        }
        const Run<float> part(half, 1, part_qkv, part_dout);
        int64_t different = 0;
        for (int64_t t = 0; t < 2 * T; ++t) {
            for (int64_t c = 0; c < 5 * D; ++c) {
                different += part.dqkv[static_cast<size_t>(t * 5 * D + c)] !=
                             all.dqkv[static_cast<size_t>(t * 10 * D + column(c))];
            }
            for (int64_t c = 0; c < 3 * D; ++c) {
                different += part.out[static_cast<size_t>(t * 3 * D + c)] !=
                             all.out[static_cast<size_t>(t * 6 * D + column(c))];
            }
        }
        CHECK(different == 0);
    }
}

TEST_CASE("dropout factors are Philox words at any alignment, with mean one",
          "[core][attention][random]") {
    const PhiloxKey key = make_key(1, "factors");
    double sum = 0;
    int64_t wrong = 0;
    constexpr int kRows = 400;
    for (int r = 0; r < kRows; ++r) {
        // Also across the point where the block number needs its second word.
        const uint64_t first = (uint64_t{1} << 34) - 20000 + static_cast<uint64_t>(r) * 101;
        std::vector<float> factors(64);
        dropout_factors<64>(key, 9, first, 0.25f, factors.data());
        for (uint64_t j = 0; j < 64; ++j) {
            const bool keep = uniform_from_bits(philox_word(key, 9, first + j)) >= 0.25f;
            wrong += factors[j] != (keep ? 1.0f / 0.75f : 0.0f);
            sum += double(factors[j]);
        }
    }
    CHECK(wrong == 0);
    // Standard deviation of a factor: sqrt(p / (1 - p)) = 0.577; five of the mean's.
    CHECK(sum / (kRows * 64) == Approx(1.0).margin(5 * 0.577 / std::sqrt(kRows * 64.0)));
}

TEST_CASE("large scores neither overflow nor lose the row's sum", "[core][attention]") {
    AttentionShape s = shape_of(1, 150, 1, 1, 8);
    Doubles qkv = random_values(qkv_size(s), 10);
    for (double& x : qkv) x *= 16;
    const Doubles dout = random_values(out_size(s), 11);
    const Run<float> run(s, 1, qkv, dout);
    const Reference reference(s, qkv);
    CHECK(largest_difference(run.out, reference.out) < 2e-2);
    for (float x : run.dqkv) REQUIRE(std::isfinite(x));
}

TEST_CASE("wrong attention shapes are refused and empty ones are nothing", "[core][attention]") {
    CpuDevice device(1);
    std::vector<float> memory(1000);
    const auto tensor = [&](Shape shape) { return Tensor(memory.data(), DType::f32, shape); };
    AttentionShape s = shape_of(1, 4, 2, 1, 4);
    CHECK_THROWS_AS(device.ops().attention_forward(device.compute(), s, tensor({1, 4, 12}),
                                                   tensor({1, 4, 8}), tensor({1, 2, 4})),
                    InternalError);
    s.document_begin = Tensor(memory.data(), DType::i32, {1, 3});
    CHECK_THROWS_AS(device.ops().attention_forward(device.compute(), s, tensor({1, 4, 16}),
                                                   tensor({1, 4, 8}), tensor({1, 2, 4})),
                    InternalError);
    s.document_begin = Tensor();
    s.batch = 0;
    CHECK_NOTHROW(device.ops().attention_forward(device.compute(), s, tensor({0, 4, 16}),
                                                 tensor({0, 4, 8}), tensor({0, 2, 4})));
}

TEST_CASE("block products of every remainder equal a plain product", "[core][attention]") {
    std::mt19937 random(12);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    int64_t cases = 0, wrong = 0;
    for (int64_t m = 1; m <= 29; ++m) {
        for (int64_t vectors = 1; vectors <= 9; ++vectors) {
            const int64_t n = vectors * kLanes, k = 5;
            const bool transposed = (m + vectors) % 2 == 0, add = m % 3 == 0;
            std::vector<float> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(k * n));
            std::vector<float> c(static_cast<size_t>(m * n), 0.5f);
            for (float& x : a) x = uniform(random);
            for (float& x : b) x = uniform(random);
            const int64_t a_row = transposed ? 1 : k, a_col = transposed ? m : 1;
            multiply({m, n, k, a.data(), a_row, a_col, b.data(), n, c.data(), n, add});
            for (int64_t i = 0; i < m; ++i) {
                for (int64_t j = 0; j < n; ++j) {
                    double sum = add ? 0.5 : 0.0;
                    for (int64_t l = 0; l < k; ++l) {
                        sum += double(a[static_cast<size_t>(i * a_row + l * a_col)]) *
                               double(b[static_cast<size_t>(l * n + j)]);
                    }
                    wrong += std::abs(double(c[static_cast<size_t>(i * n + j)]) - sum) > 1e-6;
                    ++cases;
                }
            }
        }
    }
    CHECK(cases > 0);
    CHECK(wrong == 0);
}
