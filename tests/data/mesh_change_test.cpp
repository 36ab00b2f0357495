#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

#include "data/batch_loader.h"
#include "data/gpt_dataset.h"
#include "tests/data/data_test_support.h"

// What a run reads while its mesh changes at every resume.

namespace trireme {

namespace {

// Sample i is made of tokens i.
class NumberedSamples final : public SampleSource {
public:
    explicit NumberedSamples(int64_t size) : size_(size) {}
    int64_t size() const override { return size_; }
    int64_t sequence_length() const override { return 3; }
    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override {
        std::fill(tokens.begin(), tokens.end(), static_cast<int32_t>(index));
        std::fill(labels.begin(), labels.end(), static_cast<int32_t>(index));
    }
    int64_t document_begins(int64_t, std::span<int32_t>) const override { return 0; }

private:
    int64_t size_;
};

struct Phase {
    int shards, micro, steps;
};

}  // namespace

TEST_CASE("each sample is read once an epoch while the mesh changes five times", "[data]") {
    constexpr int kGlobal = 12;
    constexpr int64_t kEpoch = 396;  // 33 steps
    const NumberedSamples source(kEpoch);
    const Phase phases[] = {{1, 3, 5}, {4, 1, 11}, {3, 2, 7}, {2, 6, 1}, {12, 1, 20}, {6, 2, 22}};
    std::map<int32_t, int> reads;
    std::vector<int32_t> order;  // in which steps take them, each step sorted
    int64_t consumed = 0;
    for (const Phase& phase : phases) {
        const LoaderOptions common{.micro_batch = phase.micro,
                                   .micro_batches = kGlobal / (phase.micro * phase.shards),
                                   .n_shards = phase.shards,
                                   .sequence_length = 3};
        std::vector<std::vector<int32_t>> by_step(static_cast<size_t>(phase.steps));
        for (int shard = 0; shard < phase.shards; ++shard) {
            LoaderOptions options = common;
            options.shard = shard;
            BatchLoader loader(source, options, consumed);
            for (auto& step : by_step) {
                for (int m = 0; m < common.micro_batches; ++m) {
                    const MicroBatch& batch = loader.next();
                    for (int row = 0; row < phase.micro; ++row) {
                        const int32_t sample = batch.tokens[static_cast<size_t>(row) * 3];
                        // Dropout is keyed by this number, so it must not depend on the mesh.
                        REQUIRE((batch.first_sample + row) % kEpoch == sample);
                        ++reads[sample];
                        step.push_back(sample);
                    }
                }
            }
        }
        for (auto& step : by_step) {
            std::sort(step.begin(), step.end());
            order.insert(order.end(), step.begin(), step.end());
        }
        consumed += int64_t{phase.steps} * kGlobal;
    }
    REQUIRE(consumed == 2 * kEpoch);
    CHECK(reads.size() == kEpoch);
    for (const auto& [sample, count] : reads) {
        CAPTURE(sample);
        CHECK(count == 2);
    }
    for (size_t i = 0; i < order.size(); ++i) {
        REQUIRE(order[i] == static_cast<int32_t>(i % kEpoch));
    }
}

namespace {

// Samples that say which dataset they are of and which of its samples.
std::unique_ptr<SampleSource> blend_with_phases(const TemporaryFolder& folder, int64_t n_samples) {
    const std::vector<DataSourceOptions> sources{{folder / "a", 3.0}, {folder / "b", 1.0}};
    const std::vector<BlendPhase> phases{{60, {1.0, 4.0}}, {120, {0.0, 1.0}}};
    return make_dataset(
        sources, {.sequence_length = 5, .n_samples = n_samples, .seed = 4, .vocab_size = 4000},
        phases);
}

}  // namespace

TEST_CASE("a blend in phases goes on inside a phase, on any mesh, with no sample twice", "[data]") {
    const TemporaryFolder folder;
    // Enough for one epoch: a repeated token is a repeated sample.
    write_counting_dataset(folder / "a", std::vector<int32_t>(60, 17));
    {
        IndexedDatasetWriter writer(folder / "b", TokenType::u16);
        for (int32_t d = 0; d < 80; ++d) {
            std::vector<int32_t> tokens;
            for (int32_t i = 0; i < 13; ++i) tokens.push_back(2000 + 13 * d + i);
            writer.add_document(tokens);
        }
        writer.finish();
    }
    constexpr int64_t kGlobal = 12, kSteps = 15;
    const auto whole = blend_with_phases(folder, kGlobal * kSteps);
    REQUIRE(whole->size() == kGlobal * kSteps);
    std::map<int32_t, int> firsts;
    int from_b[3] = {};
    std::vector<int32_t> expected, tokens(5), labels(5);
    for (int64_t i = 0; i < whole->size(); ++i) {
        whole->read(i, tokens, labels);
        expected.push_back(tokens[0]);
        REQUIRE(++firsts[tokens[0]] == 1);
        if (tokens[0] >= 2000) ++from_b[i / 60];
    }
    CHECK(from_b[0] == 15);
    CHECK(from_b[1] == 48);
    CHECK(from_b[2] == 60);

    // Each leg is a new process's life: it makes everything anew. Legs end inside phases.
    const Phase legs[] = {{1, 3, 3}, {4, 1, 5}, {3, 2, 3}, {6, 2, 4}};
    std::vector<int32_t> read(expected.size(), -1);
    int64_t consumed = 0;
    for (const Phase& leg : legs) {
        const auto source = blend_with_phases(folder, kGlobal * kSteps);
        const int per_step = static_cast<int>(kGlobal) / (leg.micro * leg.shards);
        for (int shard = 0; shard < leg.shards; ++shard) {
            const LoaderOptions options{.micro_batch = leg.micro,
                                        .micro_batches = per_step,
                                        .shard = shard,
                                        .n_shards = leg.shards,
                                        .sequence_length = 5};
            BatchLoader loader(*source, options, consumed);
            for (int m = 0; m < leg.steps * per_step; ++m) {
                const MicroBatch& batch = loader.next();
                for (int row = 0; row < leg.micro; ++row) {
                    read[static_cast<size_t>(batch.first_sample + row)] =
                        batch.tokens[static_cast<size_t>(row) * 5];
                }
            }
        }
        consumed += leg.steps * kGlobal;
    }
    CHECK(read == expected);
}

}  // namespace trireme
