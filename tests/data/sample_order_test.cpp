#include "data/sample_order.h"

#include <zlib.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data/blend.h"
#include "data/gpt_dataset.h"
#include "data/numpy_random.h"
#include "data/split.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

using nlohmann::json;

const json& golden() {
    static const json values =
        json::parse(std::ifstream(std::string(TRIREME_SOURCE_DIR) + "/tests/data/golden.json"));
    return values;
}

// As make_golden.py stores arrays: short ones whole, long ones as CRC-32 of int64.
template <typename Values>
json stored(const Values& values) {
    const std::vector<int64_t> wide(values.begin(), values.end());
    if (wide.size() <= 400) return wide;
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(wide.data()),
                             static_cast<uInt>(wide.size() * sizeof(int64_t)));
    return {{"length", wide.size()}, {"crc32", crc}};
}

SampleOrder order_of(const json& row) {
    return make_sample_order(row["lengths"].get<std::vector<int32_t>>(), row["first"],
                             row["sequence_length"], row["n_samples"], row["seed"]);
}

TEST_CASE("the shuffle is numpy's, also when drawn repeatedly", "[data][order]") {
    int64_t seed = -1;
    NumpyRandomState random(0);
    for (const json& row : golden()["shuffles"]) {
        if (row["seed"] != seed) {
            seed = row["seed"];
            random = NumpyRandomState(static_cast<uint32_t>(seed));
        }
        std::vector<uint32_t> values(row["n"].get<size_t>());
        std::iota(values.begin(), values.end(), 0u);
        random.shuffle(std::span(values));
        INFO("seed " << seed << ", n " << values.size());
        REQUIRE(stored(values) == row["order"]);
    }
}

TEST_CASE("bounds above 32 bits draw two words", "[data][order]") {
    NumpyRandomState words(7);
    NumpyRandomState bounded(7);
    const uint64_t max = (uint64_t{1} << 40) - 1;
    const uint64_t high = words.next();
    REQUIRE(bounded.bounded(max) == (((high << 32) | words.next()) & max));
}

TEST_CASE("document, sample and shuffle indices are Megatron's", "[data][order]") {
    int n_separate = 0;
    for (const json& row : golden()["orders"]) {
        INFO(row["lengths"].size()
             << " documents, T " << row["sequence_length"] << ", samples " << row["n_samples"]);
        const SampleOrder order = order_of(row);
        REQUIRE(order.n_epochs == row["epochs"]);
        REQUIRE(order.separate_last_epoch == row["separate_last_epoch"]);
        REQUIRE(stored(order.documents) == row["documents"]);
        std::vector<int32_t> positions;
        for (const SamplePosition& position : order.positions) {
            positions.push_back(position.document);
            positions.push_back(position.offset);
        }
        REQUIRE(stored(positions) == row["positions"]);
        REQUIRE(stored(order.shuffle) == row["shuffle"]);
        n_separate += order.separate_last_epoch ? 1 : 0;
    }
    REQUIRE(n_separate >= 3);
}

TEST_CASE("impossible sample orders are refused", "[data][order]") {
    const std::vector<int32_t> lengths{3, 4};
    const std::vector<int32_t> empty{0, 0};
    const auto order = [](const std::vector<int32_t>& of, int64_t length, int64_t n) {
        return [=] { make_sample_order(of, 0, length, n, 1); };
    };
    CHECK(error_of(order(empty, 5, 1)).code() == ExitCode::bad_data);
    CHECK(error_of(order(lengths, 5, int64_t{1} << 61)).code() == ExitCode::config);
    CHECK(error_of(order(lengths, 5, int64_t{1} << 40)).code() == ExitCode::config);
    CHECK(error_of(order({2000000000}, 1, int64_t{5} << 30)).code() == ExitCode::config);
}

TEST_CASE("blend weights, sizes and order are Megatron's", "[data][blend]") {
    for (const json& row : golden()["blends"]) {
        const auto weights = normalize_weights(row["weights"].get<std::vector<double>>());
        INFO(weights.size() << " datasets, " << row["n_samples"] << " samples");
        REQUIRE(weights == row["normalized"].get<std::vector<double>>());
        const BlendSizes sizes = make_blend_sizes(weights, row["n_samples"]);
        REQUIRE(sizes.targets == row["targets"].get<std::vector<int64_t>>());
        REQUIRE(sizes.requests == row["requests"].get<std::vector<int64_t>>());
        REQUIRE(sizes.total == row["size"]);
        const BlendOrder order = make_blend_order(normalize_weights(weights), sizes.total);
        std::vector<int64_t> datasets, samples;
        for (int64_t n = 0; n < order.size(); ++n) {
            datasets.push_back(static_cast<int64_t>(order.dataset_of(n)));
            samples.push_back(order.sample_of(n));
        }
        REQUIRE(stored(datasets) == row["datasets"]);
        REQUIRE(stored(samples) == row["samples"]);
    }
}

TEST_CASE("the samples of blended runs of several epochs are Megatron's", "[data][blend]") {
    const TemporaryFolder folder;
    int64_t most_epochs = 0;
    for (const json& row : golden()["runs"]) {
        INFO("seed " << row["seed"] << ", T " << row["sequence_length"]);
        constexpr int32_t kApart = 1000000;  // between the ids of one dataset and the next
        std::vector<DataSourceOptions> sources;
        for (size_t k = 0; k < row["lengths"].size(); ++k) {
            sources.push_back({folder / std::to_string(k), row["weights"][k]});
            IndexedDatasetWriter writer(sources.back().path, TokenType::i32);
            int32_t next = static_cast<int32_t>(k) * kApart;
            for (const int32_t length : row["lengths"][k]) {
                std::vector<int32_t> tokens(static_cast<size_t>(length));
                for (int32_t& token : tokens) token = next++;
                writer.add_document(tokens);
            }
            writer.finish();
            most_epochs = std::max(most_epochs, row["epochs"][k].get<int64_t>());
        }
        const auto run = make_dataset(sources, {.sequence_length = row["sequence_length"],
                                                .n_samples = row["n_samples"],
                                                .seed = row["seed"],
                                                .vocab_size = 4 * kApart});
        std::vector<int64_t> datasets, firsts;
        std::vector<int32_t> tokens(row["sequence_length"].get<size_t>()), labels(tokens.size());
        for (int64_t i = 0; i < run->size(); ++i) {
            run->read(i, tokens, labels);
            datasets.push_back(tokens[0] / kApart);
            firsts.push_back(tokens[0] % kApart);
        }
        REQUIRE(stored(datasets) == row["datasets"]);
        REQUIRE(stored(firsts) == row["tokens"]);
    }
    CHECK(most_epochs > 9);
}

TEST_CASE("phases of a blend take each dataset's samples in order, and by their own weights",
          "[data][blend]") {
    // More than one mark of the order lies in it, and phases end between them.
    const std::vector<BlendPhase> phases{
        {0, {3.0, 1.0, 0.0}}, {4001, {0.0, 0.0, 1.0}}, {4002, {1.0, 1.0, 2.0}}, {20000, {1, 0, 0}}};
    const BlendOrder order = make_blend_order(phases, 11003);
    REQUIRE(order.size() == 11003);
    std::vector<int64_t> next(3, 0);
    std::vector<std::vector<int64_t>> after_phase;
    for (int64_t n = 0; n < order.size(); ++n) {
        if (n == 4001 || n == 4002) after_phase.push_back(next);
        const size_t dataset = order.dataset_of(n);
        REQUIRE(order.sample_of(n) == next[dataset]);
        ++next[dataset];
    }
    CHECK(next == order.taken());
    CHECK(after_phase[0] == std::vector<int64_t>{3001, 1000, 0});
    CHECK(after_phase[1] == std::vector<int64_t>{3001, 1000, 1});
    CHECK(next == std::vector<int64_t>{3001 + 1751, 1000 + 1750, 1 + 3500});

    // The beginning does not depend on what comes later.
    const BlendOrder alone = make_blend_order(normalize_weights(phases[0].weights), 4001);
    for (int64_t n = 0; n < 4001; ++n) REQUIRE(alone.dataset_of(n) == order.dataset_of(n));
}

TEST_CASE("impossible blend weights are refused", "[data][blend]") {
    const std::vector<double> negative{1.0, -0.5}, zero{0.0, 0.0}, infinite{1.0, 1e308 * 10};
    CHECK(error_of([&] { normalize_weights(negative); }).code() == ExitCode::config);
    CHECK(error_of([&] { normalize_weights(zero); }).code() == ExitCode::config);
    CHECK(error_of([&] { normalize_weights(infinite); }).code() == ExitCode::config);
    const std::vector<double> many(32767, 1.0 / 32767);
    CHECK(error_of([&] { make_blend_order(many, 5); }).code() == ExitCode::config);
}

TEST_CASE("a split string gives Megatron's sequence ranges", "[data][split]") {
    for (const json& row : golden()["splits"]) {
        INFO(row["split"]);
        const DatasetSplit split = parse_split(row["split"]);
        const std::optional<DatasetShare> shares[] = {split.train, split.valid, split.test};
        for (size_t i = 0; i < 3; ++i) {
            const json& expected = row["ranges"][i];
            REQUIRE(shares[i].has_value() == !expected.is_null());
            if (!shares[i]) continue;
            const SequenceRange range = sequences_of(*shares[i], row["n"], "d");
            REQUIRE(json{range.begin, range.end} == expected);
        }
    }
    // The same parts in other words have the same text.
    for (const char* same : {"90,5,0", " 90 , 5", "90/5", "90.0,5.00"}) {
        CHECK(parse_split(same).text == "90,5");
    }
    CHECK(parse_split("0.9,.05,1").text == "0.9,0.05,1");
    const std::string huge = "1" + std::string(308, '0');
    for (const std::string& bad :
         {std::string(), std::string("none"), std::string("0,0"), std::string("1..5"),
          std::string("."), std::string("1,2,3,4"), std::string("1,"), std::string("-1,2"),
          std::string("1 2"), std::string("1e3"), std::string("inf"), std::string("nan"),
          huge + "0", huge + "," + huge}) {
        INFO(bad);
        CHECK(error_of([&] { parse_split(bad); }).code() == ExitCode::config);
    }
}

}  // namespace
}  // namespace trireme
