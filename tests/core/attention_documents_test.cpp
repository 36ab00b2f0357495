#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "tests/core/attention_support.h"

using namespace trireme;
using namespace trireme::test;

namespace {

void check_documents(std::initializer_list<AttentionShape> shapes) {
    for (const AttentionShape& s : shapes) {
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

}  // namespace

TEST_CASE("attention among the tokens of a document equals a plain double implementation",
          "[core][attention]") {
    const float dropout = GENERATE(0.0f, 0.3f);
    check_documents({shape_of(2, 1, 2, 1, 6, dropout), shape_of(2, 5, 6, 2, 6, dropout),
                     shape_of(2, 65, 2, 1, 17, dropout)});
}

TEST_CASE(
    "attention among the tokens of a document equals a plain double implementation, at length",
    "[core][attention][long]") {
    const float dropout = GENERATE(0.0f, 0.3f);
    check_documents({shape_of(2, 63, 2, 2, 32, dropout), shape_of(2, 65, 6, 2, 17, dropout),
                     shape_of(1, 128, 2, 1, 64, dropout), shape_of(1, 257, 3, 1, 20, dropout)});
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
