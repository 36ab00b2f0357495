#include "data/token_shards.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "data/describe.h"
#include "data/fingerprint.h"
#include "data/gpt_dataset.h"
#include "data/sequential_dataset.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

constexpr int32_t kGpt2End = 50256;

template <typename T>
std::string stored(const std::vector<int32_t>& tokens) {
    std::vector<T> narrow;
    for (const int32_t token : tokens) narrow.push_back(static_cast<T>(token));
    return std::string(reinterpret_cast<const char*>(narrow.data()), narrow.size() * sizeof(T));
}

std::string llmc_file(int32_t mark, int32_t version, int32_t count, const std::string& tokens) {
    std::string header(1024, '\0');
    std::memcpy(&header[0], &mark, 4);
    std::memcpy(&header[4], &version, 4);
    std::memcpy(&header[8], &count, 4);
    return header + tokens;
}

std::string gpt2_file(const std::vector<int32_t>& tokens) {
    return llmc_file(20240520, 1, static_cast<int32_t>(tokens.size()), stored<uint16_t>(tokens));
}

std::vector<int32_t> all_tokens(const TokenSource& corpus) {
    std::vector<int32_t> tokens(static_cast<size_t>(corpus.n_tokens()));
    corpus.read(0, tokens);
    return tokens;
}

std::vector<int32_t> counting(int32_t first, int32_t n) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < n; ++i) tokens.push_back(first + i);
    return tokens;
}

}  // namespace

TEST_CASE("llm.c's shards are one text in the order of their names", "[data][shards]") {
    const TemporaryFolder folder;
    std::vector<int32_t> all;
    // One is empty, one is longer than what is read at a time.
    const std::vector<int32_t> sizes{5, 0, 20001, 3};
    for (size_t i = 0; i < sizes.size(); ++i) {
        const auto tokens = counting(static_cast<int32_t>(all.size()), sizes[i]);
        write_text(folder / ("s_" + std::to_string(i) + ".bin"), gpt2_file(tokens));
        all.insert(all.end(), tokens.begin(), tokens.end());
    }
    const auto corpus = open_tokens({folder / "s_*.bin"});
    CHECK(corpus->token_type() == TokenType::u16);
    CHECK(corpus->n_sequences() == 3);
    CHECK(all_tokens(*corpus) == all);
    for (const int64_t at : {0, 4, 5, 6, 20004, 20005, 20006, 20008}) {
        for (int64_t n = 0; n <= std::min<int64_t>(7, corpus->n_tokens() - at); ++n) {
            std::vector<int32_t> some(static_cast<size_t>(n));
            corpus->read(at, some);
            REQUIRE(std::equal(some.begin(), some.end(), all.begin() + at));
        }
    }
}

TEST_CASE("more shards than are kept open are read all the same", "[data][shards]") {
    const TemporaryFolder folder;
    std::vector<int32_t> all;
    for (int32_t i = 1000; i < 1300; ++i) {
        write_text(folder / ("s_" + std::to_string(i) + ".bin"), gpt2_file({i, 2 * i}));
        all.insert(all.end(), {i, 2 * i});
    }
    CHECK(all_tokens(*open_tokens({folder / "s_*"})) == all);
}

TEST_CASE("Llama 3's ids and nanoGPT's bare files are read", "[data][shards]") {
    const TemporaryFolder folder;
    const std::vector<int32_t> tokens{128000, 5, 128255, 70000, 128000, 1};
    write_text(folder / "l.bin", llmc_file(20240801, 7, 6, stored<uint32_t>(tokens)));
    const auto llama = open_tokens({folder / "l.bin"});
    CHECK(llama->token_type() == TokenType::u32);
    CHECK(all_tokens(*llama) == tokens);

    write_text(folder / "n.bin", stored<uint16_t>({1, 2, 65535, 4}));
    const DataSourceOptions source{.path = folder / "n.bin", .format = DataFormat::nanogpt};
    CHECK(all_tokens(*open_tokens(source)) == std::vector<int32_t>{1, 2, 65535, 4});
}

TEST_CASE("documents are counted by the end of text, before or behind each", "[data][shards]") {
    const TemporaryFolder folder;
    const int32_t end = kGpt2End;
    write_text(folder / "n.bin", stored<uint16_t>({1, 2, end, 3, end, end, 4, 5, 6, 7}));
    const DatasetSummary bare =
        describe_dataset({.path = folder / "n.bin", .format = DataFormat::nanogpt});
    CHECK(bare.format == "nanogpt");
    CHECK(bare.documents == 4);
    CHECK(bare.shortest_sequence == 1);
    CHECK(bare.longest_sequence == 4);
    CHECK(bare.end_of_text == end);
    CHECK(bare.bytes == 20);

    // The second shard goes on with the first one's last document.
    write_text(folder / "s_0.bin", gpt2_file({end, 1, end, 2, 3}));
    write_text(folder / "s_1.bin", gpt2_file({4, 5, end, 6}));
    const DatasetSummary shards = describe_dataset({folder / "s_*.bin"});
    CHECK(shards.format == "llmc");
    CHECK(shards.files == 2);
    CHECK(shards.documents == 3);
    CHECK(shards.shortest_sequence == 2);
    CHECK(shards.longest_sequence == 5);

    const std::vector<int32_t> llama{128000, 1, 50256, 2, 128000, 3};
    write_text(folder / "l.bin", llmc_file(20240801, 7, 6, stored<uint32_t>(llama)));
    CHECK(describe_dataset({folder / "l.bin"}).documents == 2);
    CHECK(verify_dataset({folder / "l.bin"}) == 128000);
}

TEST_CASE("the samples of shards are those of an indexed dataset with a document a shard",
          "[data][shards]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "indexed", {41, 30, 77});
    write_text(folder / "s_0.bin", gpt2_file(counting(0, 41)));
    write_text(folder / "s_1.bin", gpt2_file(counting(41, 30)));
    write_text(folder / "s_2.bin", gpt2_file(counting(71, 77)));
    const GptDatasetOptions options{
        .sequence_length = 7, .n_samples = 55, .seed = 3, .vocab_size = 148};
    const GptDataset indexed(DataSourceOptions{folder / "indexed"}, options);
    const GptDataset shards(DataSourceOptions{folder / "s_*.bin"}, options);
    REQUIRE(shards.size() == indexed.size());
    std::vector<int32_t> a(7), b(7), labels(7);
    for (int64_t i = 0; i < shards.size(); ++i) {
        indexed.read(i, a, labels);
        shards.read(i, b, labels);
        REQUIRE(a == b);
    }
    // An evaluation reads them from front to back.
    const auto windows = make_sequential_dataset({folder / "s_*.bin"}, 100, 148);
    std::vector<int32_t> tokens(100), next(100);
    windows->read(0, tokens, next);
    CHECK(tokens == counting(0, 100));
    CHECK(next == counting(1, 100));
}

TEST_CASE("samples of shards begin a document behind each end of text and with each shard",
          "[data][shards]") {
    const int64_t length = GENERATE(1, 3, 8, 50);
    const TemporaryFolder folder;
    write_text(folder / "a.bin", stored<uint16_t>({kGpt2End, 1, 2, kGpt2End, 3, kGpt2End}));
    write_text(folder / "b.bin", stored<uint16_t>({4, 5, 6, 7, kGpt2End, kGpt2End, 8}));
    const DataSourceOptions source{.path = folder / "?.bin", .format = DataFormat::nanogpt};
    const auto begins_of = [&](const SampleSource& samples, int64_t index) {
        std::vector<int32_t> begins(static_cast<size_t>(length), -7);
        begins.resize(static_cast<size_t>(samples.document_begins(index, begins)));
        return begins;
    };
    const int32_t starts[] = {0, 1, 4, 6, 11, 12};  // of documents, in the text of 13 tokens

    const auto windows = make_sequential_dataset(source, length, 60000);
    for (int64_t index = 0; index < windows->size(); ++index) {
        std::vector<int32_t> want;
        for (const int32_t start : starts) {
            const auto at = static_cast<int32_t>(start - index * length);
            if (at > 0 && at <= length) want.push_back(at);
        }
        CHECK(begins_of(*windows, index) == want);
    }

    // In the shuffled order a document begins where the id before is an end or another shard's.
    const GptDataset shuffled(
        source, {.sequence_length = length, .n_samples = 40, .seed = 3, .vocab_size = 60000});
    std::vector<int32_t> tokens(static_cast<size_t>(length)), labels(tokens);
    int64_t found = 0;
    for (int64_t index = 0; index < shuffled.size(); ++index) {
        shuffled.read(index, tokens, labels);
        std::vector<int32_t> want;
        for (int64_t t = 0; t < length; ++t) {
            const int32_t here = tokens[static_cast<size_t>(t)];
            const bool is_last = here == kGpt2End || here == 8;  // 8 ends the second shard
            if (is_last) want.push_back(static_cast<int32_t>(t + 1));
        }
        CHECK(begins_of(shuffled, index) == want);
        found += static_cast<int64_t>(want.size());
    }
    CHECK(found > 0);
}

TEST_CASE("a changed, a missing and a further shard are another dataset", "[data][shards]") {
    const TemporaryFolder folder;
    const DataSourceOptions source{folder / "s_*.bin"};
    write_text(folder / "s_0.bin", gpt2_file({1, 2, 3}));
    write_text(folder / "s_1.bin", gpt2_file({4, 5, 6}));
    const std::string before = dataset_fingerprint(source);
    CHECK(before.starts_with("2 files"));
    write_text(folder / "s_1.bin", gpt2_file({4, 5, 7}));
    CHECK(dataset_fingerprint(source) != before);
    write_text(folder / "s_1.bin", gpt2_file({4, 5, 6}));
    CHECK(dataset_fingerprint(source) == before);
    write_text(folder / "s_2.bin", gpt2_file({4, 5, 6}));
    CHECK(dataset_fingerprint(source) != before);
}

TEST_CASE("bad token files are refused with file and reason", "[data][shards]") {
    const TemporaryFolder folder;
    const std::string good = gpt2_file({1, 2, 3});
    const std::string tokens = stored<uint16_t>({1, 2, 3});
    struct Case {
        std::string bytes, expected;
        DataFormat format = DataFormat::llmc;
    };
    const Case cases[] = {
        {good.substr(0, good.size() - 1), "found 1029 bytes, expected 1030"},
        {good.substr(0, 500), "found 500 bytes, expected at least llm.c's header"},
        {good + "xx", "found 1032 bytes, expected 1030"},
        {"", "found 0 bytes"},
        {llmc_file(7, 1, 3, tokens), "found the mark 7 at byte 0"},
        {llmc_file(20240522, 1, 3, tokens), "multiple-choice data"},
        {llmc_file(20240520, 7, 3, tokens), "found version 7 at byte 4, expected 1"},
        {llmc_file(20240801, 1, 3, tokens), "found version 1 at byte 4, expected 7"},
        {llmc_file(20240801, 7, 3, tokens), "expected 1036 for the 3 tokens of type uint32"},
        {llmc_file(20240520, 1, 3, stored<uint32_t>({1, 2, 3})), "found 1036 bytes, expected 1030"},
        {llmc_file(20240520, 1, -1, tokens), "found -1 tokens"},
        {llmc_file(20240520, 1, 2147483647, tokens), "found 1030 bytes, expected 4294968318"},
        {llmc_file(20240520, 1, 0, ""), "holds no token"},
        {"abc", "found 3 bytes, expected an even number", DataFormat::nanogpt},
        {"", "holds no token", DataFormat::nanogpt},
        {good, "found llm.c's mark at byte 0, expected uint16 tokens", DataFormat::nanogpt},
        {"abcd", "the format cannot be told", DataFormat::automatic},
    };
    for (const Case& c : cases) {
        INFO(c.expected);
        write_text(folder / "s.bin", c.bytes);
        const Error error =
            error_of([&] { open_tokens({.path = folder / "s.bin", .format = c.format}); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("s.bin") && Contains(c.expected));
    }
    CHECK_THAT(error_of([&] { open_tokens({folder / "x*.bin"}); }).what(), Contains("no file"));

    write_text(folder / "a_0.bin", good);
    write_text(folder / "a_1.bin", llmc_file(20240801, 7, 1, stored<uint32_t>({1})));
    const Error mixed = error_of([&] { open_tokens({folder / "a_*"}); });
    CHECK(mixed.code() == ExitCode::bad_data);
    CHECK_THAT(mixed.what(), Contains("a_1.bin") && Contains("uint32") && Contains("a_0.bin"));
}

TEST_CASE("a file of a dataset given for its prefix is answered with the prefix",
          "[data][shards]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "docs", {3, 4});
    for (const std::string name : {"docs.bin", "docs.idx", "docs.b*"}) {
        const Error error = error_of([&] { open_tokens({.path = folder / name}); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("give " + (folder / "docs")) && !Contains("no .idx"));
    }
    CHECK(open_tokens({.path = folder / "docs"})->n_tokens() == 7);
}

TEST_CASE("an id beyond the vocabulary is named with its shard", "[data][shards]") {
    const TemporaryFolder folder;
    write_text(folder / "s_0.bin", gpt2_file({1, 2, 3}));
    write_text(folder / "s_1.bin", gpt2_file({4, 257, 6}));
    const auto corpus = open_tokens({folder / "s_*"});
    std::vector<int32_t> tokens(6);
    const Error error = error_of([&] { corpus->read(0, tokens, 257); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("s_1.bin: token 1 is id 257"));
    CHECK_THAT(error.what(), Contains("vocabulary has 257 ids (0 to 256)"));
    write_text(folder / "n.bin", stored<uint16_t>(counting(0, 20000)));
    const auto bare = open_tokens({.path = folder / "n.bin", .format = DataFormat::nanogpt});
    tokens.resize(19000);
    CHECK_THAT(error_of([&] { bare->read(1000, tokens, 19999); }).what(),
               Contains("n.bin: token 19999, read as nanoGPT's uint16, is id 19999"));

    const int32_t huge = -2;  // 4294967294 as uint32
    write_text(folder / "l.bin", llmc_file(20240801, 7, 1, stored<uint32_t>({huge})));
    CHECK_THAT(error_of([&] { all_tokens(*open_tokens({folder / "l.bin"})); }).what(),
               Contains("4294967294"));
    // Cut off after it was opened.
    write_text(folder / "s_1.bin", gpt2_file({4}));
    tokens.resize(6);
    CHECK(error_of([&] { corpus->read(0, tokens); }).code() == ExitCode::bad_data);
}

}  // namespace trireme
