#include <catch2/catch.hpp>
#include <cmath>
#include <type_traits>
#include <vector>

#include "core/cpu/attention.h"
#include "core/cpu/cpu_device.h"
#include "tests/core/attention_support.h"

using namespace trireme;
using namespace trireme::test;

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

TEMPLATE_TEST_CASE("the newest queries alone get the bits that they get among all",
                   "[core][attention]", float, bf16) {
    const bool without_amx = GENERATE(false, true);
    for (AttentionShape s : {shape_of(2, 1, 2, 1, 6), shape_of(2, 65, 6, 2, 17, 0.2f),
                             shape_of(1, 257, 3, 1, 65), shape_of(1, 128, 2, 2, 64)}) {
        const Doubles qkv = random_values(qkv_size(s), 23);
        const Doubles dout = random_values(out_size(s), 24);
        const Run<TestType> all(s, 2, qkv, dout, without_amx);
        const auto width = static_cast<size_t>(s.heads * s.head_dim);
        for (const int64_t first : {int64_t{0}, s.sequence / 3, s.sequence - 1, s.sequence}) {
            CAPTURE(s.sequence, first);
            s.first_query = static_cast<int>(first);
            const Run<TestType> newest(s, 3, qkv, dout, without_amx);
            for (size_t i = 0; i < newest.out.size(); ++i) {
                const auto t = static_cast<int64_t>(i / width) % s.sequence;
                const float value = newest.out[i];
                const bool is_right = value == float(all.out[i]);
                if (!is_right && (t >= first || value != 99.0f)) FAIL("token " << t);
            }
            for (size_t i = 0; i < newest.lse.size(); ++i) {
                const auto t = static_cast<int64_t>(i) % s.sequence;
                if (t >= first && newest.lse[i] != all.lse[i]) FAIL("log-sum-exp of " << t);
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
