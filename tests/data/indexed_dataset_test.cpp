#include "data/indexed_dataset.h"

#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>

#include "data/describe.h"
#include "data/indexed_dataset_writer.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

Error opening(const std::string& prefix) {
    return error_of([&] { IndexedDataset dataset(prefix); });
}

template <typename T>
std::string patched(std::string bytes, size_t at, T value) {
    std::memcpy(&bytes.at(at), &value, sizeof value);
    return bytes;
}

TEST_CASE("what the writer wrote the reader reads, in every type", "[data][indexed]") {
    const auto type = GENERATE(TokenType::u8, TokenType::i8, TokenType::i16, TokenType::i32,
                               TokenType::i64, TokenType::u16);
    const TemporaryFolder folder;
    const std::string prefix = folder / "d";
    std::vector<int32_t> all;
    {
        IndexedDatasetWriter writer(prefix, type);
        for (const int length : {3, 0, 1, 70001}) {
            std::vector<int32_t> tokens;
            for (int i = 0; i < length; ++i) tokens.push_back((i * 7 + length) % 128);
            writer.add_sequence(tokens);
            if (length != 0) writer.end_document();
            all.insert(all.end(), tokens.begin(), tokens.end());
        }
        REQUIRE(folder.names() == std::set<std::string>{"d.bin.partial", "d.idx.partial"});
        writer.finish();
    }
    REQUIRE(folder.names() == std::set<std::string>{"d.bin", "d.idx"});
    REQUIRE(read_text(prefix + ".idx").size() == 34 + 12 * 4 + 8 * 4);

    const IndexedDataset dataset(prefix);
    REQUIRE(dataset.token_type() == type);
    REQUIRE(dataset.n_sequences() == 4);
    REQUIRE(dataset.n_documents() == 3);
    for (const auto& [document, first] : {std::pair{0, 0}, {1, 1}, {2, 3}, {3, 4}}) {
        REQUIRE(dataset.first_sequence(document) == first);
    }
    REQUIRE(dataset.start(3) == 4);
    std::vector<int32_t> tokens(all.size());
    dataset.read(0, tokens);
    REQUIRE(tokens == all);
    std::vector<int32_t> part(40000);
    dataset.read(30001, part);
    REQUIRE(std::equal(part.begin(), part.end(), all.begin() + 30001));

    const DatasetSummary summary = describe_dataset({prefix});
    CHECK(summary.token_type == name_of(type));
    CHECK(summary.tokens == 70005);
    CHECK(summary.bytes == 70005 * size_of(type));
    CHECK(summary.shortest_sequence == 0);
    CHECK(summary.longest_sequence == 70001);
    CHECK(verify_dataset({prefix}) == 127);
    CHECK(error_of([&] { verify_dataset({prefix}, 127); }).code() == ExitCode::bad_data);
}

TEST_CASE("the index is byte for byte Megatron's", "[data][indexed]") {
    const TemporaryFolder folder;
    IndexedDatasetWriter writer(folder / "d", int64_t{257});
    writer.add_document(std::vector<int32_t>{256, 1});
    writer.add_document(std::vector<int32_t>{2});
    writer.finish();
    const std::string expected{
        "MMIDIDX\0\0"
        "\1\0\0\0\0\0\0\0"
        "\10"
        "\2\0\0\0\0\0\0\0"
        "\3\0\0\0\0\0\0\0"
        "\2\0\0\0"
        "\1\0\0\0"
        "\0\0\0\0\0\0\0\0"
        "\4\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0"
        "\1\0\0\0\0\0\0\0"
        "\2\0\0\0\0\0\0\0",
        34 + 24 + 24};
    REQUIRE(read_text(folder / "d.idx") == expected);
    REQUIRE(read_text(folder / "d.bin") == std::string("\0\1\1\0\2\0", 6));
    CHECK(token_type_for(65499) == TokenType::u16);
    CHECK(token_type_for(65500) == TokenType::i32);
}

TEST_CASE("a truncated index is refused at every length, and so is a longer one",
          "[data][indexed]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {3, 1, 4});
    const std::string index = read_text(folder / "d.idx");
    for (size_t size = 0; size < index.size(); ++size) {
        write_text(folder / "d.idx", index.substr(0, size));
        const Error error = opening(folder / "d");
        INFO(size);
        REQUIRE(error.code() == ExitCode::bad_data);
        REQUIRE_THAT(error.what(), Contains("d.idx at byte " + std::to_string(size)));
    }
    for (size_t extra = 1; extra < 9; ++extra) {
        write_text(folder / "d.idx", index + std::string(extra, '\0'));
        REQUIRE(opening(folder / "d").code() == ExitCode::bad_data);
    }
}

TEST_CASE("a .bin file of another size than the index says is refused with both sizes",
          "[data][indexed]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {3, 1, 4});
    const std::string bin = read_text(folder / "d.bin");
    REQUIRE(bin.size() == 32);
    for (size_t size = 0; size <= 40; ++size) {
        if (size == bin.size()) continue;
        write_text(folder / "d.bin", (bin + "12345678").substr(0, size));
        const Error error = opening(folder / "d");
        REQUIRE(error.code() == ExitCode::bad_data);
        REQUIRE_THAT(error.what(), Contains("d.bin has " + std::to_string(size) + " bytes") &&
                                       Contains("says 32"));
    }
}

TEST_CASE("each broken rule of the index is refused with its offset", "[data][indexed]") {
    const TemporaryFolder folder;
    const std::string prefix = folder / "d";
    write_counting_dataset(prefix, {3, 1, 4});
    const std::string good = read_text(prefix + ".idx");  // lengths 34, pointers 46, documents 70
    struct Case {
        std::string index;
        std::string message;
    };
    const std::vector<Case> cases{
        {patched(good, 0, 'X'), "at byte 0: "},
        {patched(good, 8, 'X'), "at byte 0: "},
        {patched(good, 9, uint64_t{2}), "at byte 9: found version 2"},
        {patched(good, 17, uint8_t{6}), "at byte 17: found dtype code 6"},
        {patched(good, 17, uint8_t{0}), "at byte 17: found dtype code 0"},
        {patched(good, 17, uint8_t{9}), "at byte 17: found dtype code 9"},
        {patched(good, 18, ~uint64_t{0}), "more bytes than a file can have"},
        {patched(good, 18, ~uint64_t{0} / 12), "more bytes than a file can have"},
        {patched(good, 26, (uint64_t{1} << 61) + 4), "more bytes than a file can have"},
        {patched(good, 18, uint64_t{1} << 40), "announces"},
        {patched(good, 18, uint64_t{2}), "more bytes"},
        {patched(good, 34, int32_t{-3}), "at byte 34: found length -3 of sequence 0"},
        {patched(good, 38, int32_t{2}), "at byte 62: found pointer 16 of sequence 2, expected 20"},
        {patched(good, 46, int64_t{4}), "at byte 46: found pointer 4 of sequence 0, expected 0"},
        {patched(good, 70, int64_t{1}), "at byte 70: found document index 0 = 1, expected 0"},
        {patched(good, 86, int64_t{0}), "at byte 86: found document index 2 = 0"},
        {patched(good, 78, int64_t{4}), "at byte 78: found document index 1 = 4"},
        {patched(good, 78, int64_t{-1}), "at byte 78: found document index 1 = -1"},
        {patched(good, 94, int64_t{2}), "at byte 94: found document index 3 = 2"},
        {good + std::string(3, '\0'), "multimodal"},
    };
    for (const Case& broken : cases) {
        write_text(prefix + ".idx", broken.index);
        const Error error = opening(prefix);
        INFO(error.what());
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(broken.message) && Contains("d.idx"));
    }
    write_text(prefix + ".idx", good);
    CHECK(opening(prefix).code() == ExitCode::ok);
}

TEST_CASE("missing and empty datasets are refused", "[data][indexed]") {
    const TemporaryFolder folder;
    const std::string prefix = folder / "d";
    Error error = opening(prefix);
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains(prefix + ".bin") && Contains(prefix + ".idx"));

    IndexedDatasetWriter(prefix, int64_t{257}).finish();
    error = opening(prefix);
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("empty"));

    std::filesystem::remove(prefix + ".idx");
    CHECK(opening(prefix).code() == ExitCode::bad_data);
    std::filesystem::remove(prefix + ".bin");
    std::filesystem::create_directory(prefix + ".bin");
    CHECK(opening(prefix).code() == ExitCode::bad_data);
}

TEST_CASE("a token beyond the vocabulary is named with its place", "[data][indexed]") {
    const TemporaryFolder folder;
    const std::string prefix = folder / "d";
    {
        IndexedDatasetWriter writer(prefix, TokenType::i64);
        writer.add_document(std::vector<int32_t>{1, 2, 3});
        writer.add_sequence(std::vector<int32_t>{4, 5});
        writer.add_sequence(std::vector<int32_t>{});
        writer.add_sequence(std::vector<int32_t>{6, 99, 7});
        writer.finish();
    }
    const IndexedDataset dataset(prefix);
    std::vector<int32_t> tokens(8);
    dataset.read(0, tokens, 100);
    CHECK(tokens[6] == 99);
    Error error = error_of([&] { dataset.read(0, tokens, 99); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains(prefix + ".bin") &&
                                 Contains("document 1, token 3 is id 99") &&
                                 Contains("vocabulary has 99 ids"));

    std::string bin = read_text(prefix + ".bin");
    write_text(prefix + ".bin", patched(bin, 8, int64_t{-2}));
    error = error_of([&] { dataset.read(0, tokens); });
    CHECK_THAT(error.what(), Contains("document 0, token 1 is id -2"));
    write_text(prefix + ".bin", patched(bin, 0, (int64_t{1} << 32) + 5));
    error = error_of([&] { dataset.read(0, tokens, int64_t{1} << 40); });
    CHECK_THAT(error.what(), Contains("token 0 is id 4294967301"));
}

TEST_CASE("a dataset that shrinks while open is an error, not a signal", "[data][indexed]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {5000, 7000});
    const IndexedDataset dataset(folder / "d");
    std::filesystem::resize_file(folder / "d.bin", 40001);
    std::vector<int32_t> tokens(12000);
    const Error error = error_of([&] { dataset.read(0, tokens); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("ends at byte 40001"));
}

TEST_CASE("an unfinished writer leaves the former dataset and nothing else", "[data][indexed]") {
    const TemporaryFolder folder;
    write_counting_dataset(folder / "d", {2});
    const std::string bin = read_text(folder / "d.bin"), index = read_text(folder / "d.idx");
    {
        IndexedDatasetWriter writer(folder / "d", TokenType::u8);
        writer.add_document(std::vector<int32_t>(3000000, 7));
        const Error error = error_of([&] { writer.add_document(std::vector<int32_t>{256}); });
        CHECK(error.code() == ExitCode::bad_data);
    }
    CHECK(folder.names() == std::set<std::string>{"d.bin", "d.idx"});
    CHECK(read_text(folder / "d.bin") == bin);
    CHECK(read_text(folder / "d.idx") == index);

    write_counting_dataset(folder / "d", {4, 1});
    CHECK(describe_dataset({folder / "d"}).tokens == 5);
}

TEST_CASE("a dataset has one writer at a time", "[data][indexed]") {
    const TemporaryFolder folder;
    IndexedDatasetWriter writer(folder / "d", TokenType::u8);
    const Error error = error_of([&] { IndexedDatasetWriter other(folder / "d", TokenType::u8); });
    CHECK(error.code() == ExitCode::output_busy);
    writer.add_document(std::vector<int32_t>{1});
    writer.finish();
    CHECK(folder.names() == std::set<std::string>{"d.bin", "d.idx"});

    write_text(folder / "e.bin.partial", "left by a writer that was killed");
    write_counting_dataset(folder / "e", {3});
    CHECK(describe_dataset({folder / "e"}).tokens == 3);
}

TEST_CASE("outputs that cannot be created are refused", "[data][indexed]") {
    const TemporaryFolder folder;
    write_text(folder / "file", "x");
    std::filesystem::create_directory(folder / "d.idx");
    for (const std::string& prefix : {folder / "file/d", folder / "d", std::string("/proc/d")}) {
        const Error error = error_of([&] { IndexedDatasetWriter writer(prefix, TokenType::u8); });
        INFO(error.what());
        CHECK(error.code() == ExitCode::output_busy);
    }
    CHECK(folder.names() == std::set<std::string>{"d.idx", "file"});
}

TEST_CASE("a disk that refuses is an I/O error and leaves nothing", "[data][indexed]") {
    const TemporaryFolder folder;
    rlimit former{};
    ::getrlimit(RLIMIT_FSIZE, &former);
    const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{1 << 20, former.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const Error error = error_of([&] {
        IndexedDatasetWriter writer(folder / "d", TokenType::u8);
        writer.add_document(std::vector<int32_t>((1 << 20) + 1, 7));
        writer.finish();
    });
    ::setrlimit(RLIMIT_FSIZE, &former);
    std::signal(SIGXFSZ, former_handler);
    CHECK(error.code() == ExitCode::io);
    CHECK_THAT(error.what(), Contains("d.bin.partial"));
    CHECK(folder.names().empty());
}

}  // namespace
}  // namespace trireme
