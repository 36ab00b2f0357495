#include "data/batch_loader.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>

#include "data/gpt_dataset.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

// Sample i is i, i, i, ... with labels i + 1; fails or dawdles on request.
class CountingSource final : public SampleSource {
public:
    CountingSource(int64_t size, int64_t length)
        : n_searched(static_cast<size_t>(size)), size_(size), length_(length) {}
    int64_t size() const override { return size_; }
    int64_t sequence_length() const override { return length_; }
    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override {
        if (index == fail_at) throw Error(ExitCode::bad_data, "sample is bad");
        std::this_thread::sleep_for(delay);
        ++n_read;
        std::fill(tokens.begin(), tokens.end(), static_cast<int32_t>(index));
        std::fill(labels.begin(), labels.end(), static_cast<int32_t>(index + 1));
    }
    // Documents of three tokens, the first of which begins before the source: sample i's tokens
    // are 100 i, 100 i + 1, ...
    int64_t document_begins(int64_t index, std::span<int32_t> begins) const override {
        ++n_searched[static_cast<size_t>(index)];
        int64_t n = 0;
        for (int64_t t = 1; t <= length_; ++t) {
            if ((100 * index + t) % 3 == 0) {
                begins[static_cast<size_t>(n++)] = static_cast<int32_t>(t);
            }
        }
        return n;
    }
    int64_t fail_at = -1;
    std::chrono::milliseconds delay{0};
    mutable std::atomic<int64_t> n_read{0};
    mutable std::vector<std::atomic<int>> n_searched;  // for documents, each sample

private:
    int64_t size_, length_;
};

constexpr int kLength = 3;

std::vector<int32_t> rows_of(const MicroBatch& batch) {
    std::vector<int32_t> rows;
    for (size_t i = 0; i < batch.tokens.size(); i += kLength) rows.push_back(batch.tokens[i]);
    return rows;
}

// One for each of the options' shards.
std::vector<std::unique_ptr<BatchLoader>> loaders_of(const SampleSource& source,
                                                     LoaderOptions options, int64_t consumed) {
    std::vector<std::unique_ptr<BatchLoader>> loaders;
    for (options.shard = 0; options.shard < options.n_shards; ++options.shard) {
        loaders.push_back(std::make_unique<BatchLoader>(source, options, consumed));
    }
    return loaders;
}

TEST_CASE("shards take each sample of a step exactly once, whatever their number",
          "[data][loader]") {
    const int n_shards = GENERATE(1, 2, 3, 6);
    const int micro_batch = GENERATE(1, 2);
    const int micro_batches = 12 / (n_shards * micro_batch);  // global batch 12
    const int64_t consumed = 24;
    const CountingSource source(1000, kLength);
    const auto loaders = loaders_of(source,
                                    {.micro_batch = micro_batch,
                                     .micro_batches = micro_batches,
                                     .n_shards = n_shards,
                                     .sequence_length = kLength},
                                    consumed);
    for (int step = 0; step < 7; ++step) {
        std::multiset<int32_t> seen;
        for (int shard = 0; shard < n_shards; ++shard) {
            for (int j = 0; j < micro_batches; ++j) {
                const MicroBatch& batch = loaders[static_cast<size_t>(shard)]->next();
                const auto rows = rows_of(batch);
                const int64_t first =
                    consumed + step * 12 + j * micro_batch * n_shards + shard * micro_batch;
                REQUIRE(batch.first_sample == first);
                REQUIRE(static_cast<int>(rows.size()) == micro_batch);
                for (size_t i = 0; i < rows.size(); ++i) {
                    REQUIRE(rows[i] == first + static_cast<int64_t>(i));
                }
                REQUIRE(batch.labels.back() == rows.back() + 1);
                seen.insert(rows.begin(), rows.end());
            }
        }
        std::multiset<int32_t> expected;
        for (int i = 0; i < 12; ++i) {
            expected.insert(static_cast<int32_t>(consumed) + step * 12 + i);
        }
        REQUIRE(seen == expected);
    }
}

TEST_CASE("a resumed loader goes on exactly where the run stopped", "[data][loader]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {50, 31, 7, 12});
    const GptDataset dataset(
        DataSourceOptions{folder / "d"},
        {.sequence_length = 5, .n_samples = 120, .seed = 8, .vocab_size = 100});
    const LoaderOptions options{
        .micro_batch = 2, .micro_batches = 3, .shard = 1, .n_shards = 2, .sequence_length = 5};
    BatchLoader whole(dataset, options, 0);
    std::vector<std::vector<int32_t>> tokens;
    for (int i = 0; i < 30; ++i) tokens.push_back(whole.next().tokens);
    BatchLoader resumed(dataset, options, 5 * 12);
    for (size_t i = 15; i < 30; ++i) {
        const MicroBatch& batch = resumed.next();
        REQUIRE(batch.tokens == tokens[i]);
        REQUIRE(batch.first_sample == static_cast<int64_t>(i) * 4 + 2);
    }
}

TEST_CASE("documents are kept apart alike for every number of shards", "[data][loader]") {
    constexpr int kT = 7;
    const int n_shards = GENERATE(1, 2, 6);
    const int micro_batch = GENERATE(1, 2);
    const int micro_batches = 12 / (n_shards * micro_batch);
    const int64_t consumed = 24, size = 50;  // begins again within a step
    const CountingSource source(size, kT);
    const auto loaders = loaders_of(source,
                                    {.micro_batch = micro_batch,
                                     .micro_batches = micro_batches,
                                     .n_shards = n_shards,
                                     .sequence_length = kT,
                                     .keep_documents_apart = true,
                                     .counts_tokens = true},
                                    consumed);
    for (int step = 0; step < 5; ++step) {
        int64_t counting = 0;
        std::set<int64_t> announced;
        for (int i = 0; i < micro_batches * n_shards; ++i) {
            const MicroBatch& batch = loaders[static_cast<size_t>(i % n_shards)]->next();
            const bool is_last = i >= (micro_batches - 1) * n_shards;
            REQUIRE(batch.counted_tokens.has_value() == is_last);
            if (is_last) announced.insert(*batch.counted_tokens);
            for (int64_t row = 0; row < micro_batch; ++row) {
                const int64_t sample = (batch.first_sample + row) % size;
                for (int64_t t = 0; t < kT; ++t) {
                    const auto at = static_cast<size_t>(row * kT + t);
                    // Of the source's documents of three tokens.
                    const int64_t begin = std::max<int64_t>(0, t - (100 * sample + t) % 3);
                    REQUIRE(batch.document_begin[at] == begin);
                    const bool counts = (100 * sample + t + 1) % 3 != 0;
                    REQUIRE(batch.labels[at] == (counts ? sample + 1 : kIgnoredLabel));
                    counting += counts;
                }
            }
        }
        CHECK(announced == std::set<int64_t>{counting});
    }
}

TEST_CASE("where documents begin is asked once a sample, of other shards only to count tokens",
          "[data][loader]") {
    const bool counts_tokens = GENERATE(false, true);
    const CountingSource source(1000, kLength);
    const LoaderOptions options{.micro_batch = 2,
                                .micro_batches = 3,
                                .shard = 1,
                                .n_shards = 4,
                                .sequence_length = kLength,
                                .keep_documents_apart = true,
                                .counts_tokens = counts_tokens};
    const int64_t per_step = 24, consumed = 48;
    {
        BatchLoader loader(source, options, consumed);
        for (int i = 0; i < 2 * options.micro_batches; ++i) loader.next();
    }
    for (int64_t sample = 0; sample < source.size(); ++sample) {
        INFO("sample " << sample);
        const int n_searched = source.n_searched[static_cast<size_t>(sample)];
        const bool is_own = sample / 2 % 4 == 1;
        if (sample < consumed || (!is_own && !counts_tokens)) {
            CHECK(n_searched == 0);
        } else if (sample < consumed + 2 * per_step) {
            CHECK(n_searched == 1);
        } else {
            CHECK(n_searched <= 1);  // read ahead
        }
    }
}

TEST_CASE("a loader that does not keep documents apart says nothing of them", "[data][loader]") {
    const CountingSource source(5, kLength);
    BatchLoader loader(source,
                       {.micro_batch = 2, .sequence_length = kLength, .counts_tokens = true}, 0);
    const MicroBatch& batch = loader.next();
    CHECK(batch.document_begin.empty());
    CHECK_FALSE(batch.counted_tokens.has_value());
    CHECK(batch.labels == std::vector<int32_t>{1, 1, 1, 2, 2, 2});
}

TEST_CASE("past its end a source begins again or gives nothing that counts", "[data][loader]") {
    const CountingSource source(5, kLength);
    LoaderOptions options{.micro_batch = 2, .sequence_length = kLength};
    BatchLoader wrapping(source, options, 2);
    CHECK(rows_of(wrapping.next()) == std::vector<int32_t>{2, 3});
    CHECK(rows_of(wrapping.next()) == std::vector<int32_t>{4, 0});
    CHECK(wrapping.next().first_sample == 6);

    options.wrap = false;
    BatchLoader once(source, options, 2);
    once.next();
    const MicroBatch& last = once.next();
    CHECK(last.labels == std::vector<int32_t>{5, 5, 5, -1, -1, -1});
    CHECK(last.tokens == std::vector<int32_t>{4, 4, 4, 0, 0, 0});
    CHECK(once.next().labels == std::vector<int32_t>(6, -1));

    options.keep_documents_apart = true;
    BatchLoader apart(source, options, 4);  // documents begin at tokens 2, 5, ... of sample 4
    const MicroBatch& batch = apart.next();
    CHECK(batch.labels == std::vector<int32_t>{5, -1, 5, -1, -1, -1});
    CHECK(batch.document_begin == std::vector<int32_t>{0, 0, 2, 0, 0, 0});
    CHECK_FALSE(batch.counted_tokens.has_value());
}

TEST_CASE("an error while reading ahead comes out of next, in order and again", "[data][loader]") {
    CountingSource source(100, kLength);
    source.fail_at = 5;
    BatchLoader loader(source, {.micro_batch = 2, .sequence_length = kLength}, 0);
    CHECK(rows_of(loader.next()) == std::vector<int32_t>{0, 1});
    CHECK(rows_of(loader.next()) == std::vector<int32_t>{2, 3});
    for (int i = 0; i < 2; ++i) {
        const Error error = error_of([&] { loader.next(); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK(std::string(error.what()) == "sample is bad");
    }
}

TEST_CASE("the micro-batch in hand is not overwritten while others are read ahead",
          "[data][loader]") {
    const CountingSource source(100, kLength);
    BatchLoader loader(source, {.micro_batch = 1, .micro_batches = 2, .sequence_length = kLength},
                       0);
    loader.next();
    const MicroBatch& held = loader.next();
    const int32_t* storage = held.tokens.data();
    while (source.n_read < 4) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(source.n_read == 4);  // two ahead, no more
    CHECK(held.tokens == std::vector<int32_t>(kLength, 1));
    for (int i = 2; i < 30; ++i) CHECK(loader.next().tokens[0] == i);
    CHECK(held.tokens.data() == storage);
}

TEST_CASE("a loader ends while its thread is reading", "[data][loader]") {
    CountingSource source(100000, kLength);
    source.delay = std::chrono::milliseconds(2);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 3; ++i) {
        const BatchLoader loader(source, {.micro_batch = 5000, .sequence_length = kLength}, 0);
    }
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(3));
}

}  // namespace
}  // namespace trireme
