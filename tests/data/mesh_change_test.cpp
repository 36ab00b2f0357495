#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

#include "data/batch_loader.h"

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

}  // namespace trireme
