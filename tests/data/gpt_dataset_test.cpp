#include "data/gpt_dataset.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "data/sequential_dataset.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

struct Sample {
    std::vector<int32_t> tokens, labels;
};

Sample read_sample(const SampleSource& source, int64_t index) {
    const auto length = static_cast<size_t>(source.sequence_length());
    Sample sample{std::vector<int32_t>(length, -7), std::vector<int32_t>(length, -7)};
    source.read(index, sample.tokens, sample.labels);
    return sample;
}

TEST_CASE("samples are the tokens of the shuffled documents, cut every T tokens",
          "[data][dataset]") {
    const int length = GENERATE(1, 5, 7, 41, 4999);
    const TemporaryFolder folder;
    const std::vector<int32_t> lengths{5, 1, 0, 9, 2, 2, 30, 7, 4};
    write_counting_dataset(folder / "d", lengths);
    const GptDataset dataset(
        DataSourceOptions{folder / "d"},
        {.sequence_length = length, .n_samples = 23, .seed = 5, .vocab_size = 60});
    REQUIRE(dataset.size() >= 23);

    std::vector<int32_t> text;
    for (const int32_t document : dataset.order().documents) {
        int32_t first = 0;
        for (int32_t i = 0; i < document; ++i) first += lengths[static_cast<size_t>(i)];
        for (int32_t i = 0; i < lengths[static_cast<size_t>(document)]; ++i) {
            text.push_back(first + i);
        }
    }
    for (int64_t index = 0; index < dataset.size(); ++index) {
        const Sample sample = read_sample(dataset, index);
        const int64_t sample_number = dataset.order().shuffle[static_cast<size_t>(index)];
        const auto at = text.begin() + sample_number * length;
        REQUIRE(std::equal(sample.tokens.begin(), sample.tokens.end(), at));
        REQUIRE(std::equal(sample.labels.begin(), sample.labels.end(), at + 1));
    }
}

std::vector<int32_t> begins_of(const SampleSource& source, int64_t index) {
    std::vector<int32_t> begins(static_cast<size_t>(source.sequence_length()), -7);
    begins.resize(static_cast<size_t>(source.document_begins(index, begins)));
    return begins;
}

TEST_CASE("a sample knows where documents begin, in every epoch", "[data][dataset]") {
    const int length = GENERATE(1, 5, 7, 41, 499);
    const TemporaryFolder folder;
    const std::vector<int32_t> lengths{5, 1, 0, 9, 2, 2, 30, 7, 4};
    write_counting_dataset(folder / "d", lengths);
    const GptDataset dataset(
        DataSourceOptions{folder / "d"},
        {.sequence_length = length, .n_samples = 130, .seed = 5, .vocab_size = 60});
    // Over the text of all epochs, whether a token is the first of its document.
    std::vector<bool> is_first;
    for (const int32_t document : dataset.order().documents) {
        for (int32_t i = 0; i < lengths[static_cast<size_t>(document)]; ++i) {
            is_first.push_back(i == 0);
        }
    }
    REQUIRE(dataset.order().n_epochs > 1);
    int64_t from_the_middle = 0;
    for (int64_t index = 0; index < dataset.size(); ++index) {
        const size_t at =
            dataset.order().shuffle[static_cast<size_t>(index)] * static_cast<size_t>(length);
        from_the_middle += !is_first[at];
        std::vector<int32_t> want;
        for (int32_t t = 1; t <= length; ++t) {
            if (is_first[at + static_cast<size_t>(t)]) want.push_back(t);
        }
        REQUIRE(begins_of(dataset, index) == want);
    }
    CHECK(from_the_middle > 0);
}

TEST_CASE("datasets whose orders are told alike begin with the same samples", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5, 1, 0, 9, 2, 2, 30, 7, 4});
    const auto of = [&](int64_t n_samples) {
        return GptDataset(
            DataSourceOptions{folder / "d"},
            {.sequence_length = 4, .n_samples = n_samples, .seed = 5, .vocab_size = 60});
    };
    CHECK(of(10).order_text() == "seed 5, 1 epoch");
    CHECK(of(16).order_text() == "seed 5, 2 epochs with the last shuffled apart");
    CHECK(of(29).order_text() == "seed 5, 2 epochs");
    int alike = 0;
    for (int64_t n = 2; n < 60; ++n) {
        const GptDataset less = of(n - 1), more = of(n);
        if (less.order_text() != more.order_text()) continue;
        ++alike;
        for (int64_t i = 0; i < n - 1; ++i) {
            REQUIRE(read_sample(less, i).tokens == read_sample(more, i).tokens);
        }
    }
    CHECK(alike > 40);
}

TEST_CASE("a share of a dataset's sequences is a dataset of its own", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5, 3, 9, 2});
    write_counting_dataset(folder / "inner", {3, 9});
    const DatasetShare share{.begin = 0.25, .end = 0.75};
    const auto check_same = [](const SampleSource& part, const SampleSource& inner) {
        REQUIRE(part.size() == inner.size());
        for (int64_t index = 0; index < part.size(); ++index) {
            const Sample sample = read_sample(part, index);
            Sample same = read_sample(inner, index);
            for (size_t i = 0; i < same.tokens.size(); ++i) {
                if (same.labels[i] < 0) continue;  // behind the last token of all
                same.tokens[i] += 5;
                same.labels[i] += 5;
            }
            REQUIRE(sample.tokens == same.tokens);
            REQUIRE(sample.labels == same.labels);
            REQUIRE(begins_of(part, index) == begins_of(inner, index));
        }
    };
    GptDatasetOptions options{.sequence_length = 4, .n_samples = 30, .seed = 1, .vocab_size = 60};
    const GptDataset inner({folder / "inner"}, options);
    options.share = share;
    check_same(GptDataset({folder / "d"}, options), inner);
    check_same(*make_sequential_dataset({folder / "d"}, 4, 60, share),
               *make_sequential_dataset({folder / "inner"}, 4, 60));
}

TEST_CASE("a share without a sequence is refused", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5, 3, 9, 2});
    const Error error = error_of([&] {
        GptDataset(DataSourceOptions{folder / "d"}, {.sequence_length = 4,
                                                     .n_samples = 30,
                                                     .vocab_size = 60,
                                                     .share = {.begin = 0.9, .end = 1.0}});
    });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("none of its 4 sequences"));
}

TEST_CASE("a blend takes its parts by weight, each in its own order", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "a", {50, 20, 31}, 100);
    {
        IndexedDatasetWriter writer(folder / "b", TokenType::u16);
        std::vector<int32_t> tokens;
        for (int32_t i = 0; i < 77; ++i) tokens.push_back(100 + i);
        writer.add_document(tokens);
        writer.finish();
    }
    const std::vector<DataSourceOptions> sources{{folder / "a", 3.0}, {folder / "b", 1.0}};
    const GptDatasetOptions options{
        .sequence_length = 6, .n_samples = 100, .seed = 3, .vocab_size = 200};
    const auto blend = make_dataset(sources, options);
    REQUIRE(blend->size() == 100);
    GptDatasetOptions part = options;
    part.n_samples = 76;  // ceil(75 * 1.005)
    const GptDataset a(DataSourceOptions{folder / "a"}, part);
    part.n_samples = 26;
    const GptDataset b(DataSourceOptions{folder / "b"}, part);
    int64_t n_a = 0, n_b = 0;
    for (int64_t index = 0; index < 100; ++index) {
        const Sample sample = read_sample(*blend, index);
        const bool from_a = sample.tokens[0] < 100;
        const GptDataset& source = from_a ? a : b;
        int64_t& n = from_a ? n_a : n_b;
        REQUIRE(begins_of(*blend, index) == begins_of(source, n));
        REQUIRE(sample.tokens == read_sample(source, n++).tokens);
    }
    CHECK(n_a == 75);
    CHECK(n_b == 25);

    const auto alone = make_dataset(std::span(sources).first(1), options);
    const GptDataset single(DataSourceOptions{folder / "a"}, options);
    for (int64_t i = 0; i < 100; ++i) {
        REQUIRE(read_sample(*alone, i).tokens == read_sample(single, i).tokens);
    }
    CHECK(error_of([&] { make_dataset({}, options); }).code() == ExitCode::config);
    const std::vector<DataSourceOptions> missing{{folder / "a", 3.0}, {folder / "no", 1.0}};
    CHECK(error_of([&] { make_dataset(missing, options); }).code() == ExitCode::bad_data);
}

TEST_CASE("a part that is too small for its weight is refused", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "a", {9});
    std::vector<std::unique_ptr<SampleSource>> parts;
    for (int i = 0; i < 2; ++i) {
        parts.push_back(std::make_unique<GptDataset>(
            DataSourceOptions{folder / "a"},
            GptDatasetOptions{.sequence_length = 4, .n_samples = 2, .seed = 1, .vocab_size = 60}));
    }
    const std::vector<double> weights{1.0, 2.0};
    CHECK(error_of([&] {
              BlendedDataset(std::move(parts), make_blend_order(normalize_weights(weights), 5));
          }).code() == ExitCode::config);
}

TEST_CASE("a sample with a token beyond the vocabulary is named", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5, 6, 3});
    const GptDataset dataset(DataSourceOptions{folder / "d"},
                             {.sequence_length = 13, .n_samples = 1, .seed = 1, .vocab_size = 13});
    const Error error = error_of([&] { read_sample(dataset, 0); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("d.bin: document 2, token 2 is id 13") &&
                                 Contains("vocabulary has 13 ids"));
}

TEST_CASE("an evaluation counts every token but the first exactly once", "[data][dataset]") {
    const int length = GENERATE(1, 2, 3, 10, 11, 12, 4097);
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5, 1, 5, 0, 1});  // 12 tokens
    const auto windows = make_sequential_dataset({folder / "d"}, length, 12);
    std::vector<int32_t> counted;
    for (int64_t index = 0; index < windows->size(); ++index) {
        const Sample sample = read_sample(*windows, index);
        for (size_t i = 0; i < sample.tokens.size(); ++i) {
            if (sample.labels[i] < 0) {
                REQUIRE(index == windows->size() - 1);
                REQUIRE(sample.tokens[i] == 0);
                continue;
            }
            REQUIRE(sample.labels[i] == sample.tokens[i] + 1);
            counted.push_back(sample.labels[i]);
        }
    }
    CHECK(counted == std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
}

TEST_CASE("an evaluation's windows know where documents begin", "[data][dataset]") {
    const int length = GENERATE(1, 2, 3, 10, 11, 12, 4097);
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {0, 5, 1, 0, 0, 5, 1, 0});
    const std::set<int64_t> first{5, 6, 11};
    const auto windows = make_sequential_dataset({.path = folder / "d"}, length, 12);
    for (int64_t index = 0; index < windows->size(); ++index) {
        std::vector<int32_t> want;
        for (int32_t t = 1; t <= length; ++t) {
            if (first.contains(index * length + t)) want.push_back(t);
        }
        REQUIRE(begins_of(*windows, index) == want);
    }
}

TEST_CASE("an evaluation needs two tokens", "[data][dataset]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {1});
    CHECK(error_of([&] { make_sequential_dataset({folder / "d"}, 4, 12); }).code() ==
          ExitCode::bad_data);
}

}  // namespace
}  // namespace trireme
