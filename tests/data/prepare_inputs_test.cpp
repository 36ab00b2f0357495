#include <catch2/catch.hpp>

#include "data/prepare.h"
#include "tests/data/data_test_support.h"
#include "tests/data/input_support.h"
#include "tests/data/prepare_test_support.h"
#include "tests/data/tokenizer_test_support.h"

// What prepare reads: formats, packed files, pipes, patterns, bad lines.

namespace trireme {
namespace {

using Catch::Matchers::Contains;
using Names = std::set<std::string>;

TEST_CASE("bad lines are skipped, told and counted when asked for", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string long_line =
        "{\"text\": \"" + std::string(DocumentStream::kMaxLineBytes + 5, 'x') + "\"}\n";
    write_text(folder / "a.jsonl", "{\"text\": \"one\"}\n{\"text\": 3}\n" + long_line +
                                       "nonsense\n{\"text\": \"two\"}\n{\"text\": \"\xff\"}");
    std::vector<std::string> told;
    PrepareOptions options{
        .inputs = {folder / "a.jsonl"},
        .output = folder / "out",
        .workers = 2,
        .on_bad_line = BadLine::skip,
        .on_skipped = [&](const std::string& problem) { told.push_back(problem); }};
    const PrepareResult result = prepare(options);
    CHECK(result.skipped_lines == 4);
    CHECK(result.train.documents == 2);
    REQUIRE(told.size() == 4);
    CHECK_THAT(told[0], Contains("a.jsonl:2: key 'text' holds a JSON number"));
    CHECK_THAT(told[1], Contains("a.jsonl:3: longer than 64 MiB"));
    CHECK_THAT(told[2], Contains("a.jsonl:4: not valid JSON"));
    CHECK_THAT(told[3], Contains("a.jsonl:6: not UTF-8"));
    options.on_bad_line = BadLine::fail;
    CHECK_THAT(error_of([&] { prepare(options); }).what(), Contains("a.jsonl:2: "));
}

TEST_CASE("zstd files of several frames are read, damaged ones refused", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string text = mixed_text(8, 200000);
    write_text(folder / "plain.txt", text);
    const size_t half = text.size() / 2;
    const std::string packed = zstd_frame(text.substr(0, half)) + zstd_frame(text.substr(half));
    write_text(folder / "a.txt.zst", packed);
    prepare({.inputs = {folder / "plain.txt"}, .output = folder / "plain"});
    prepare({.inputs = {folder / "a.txt.zst"}, .output = folder / "packed"});
    CHECK(read_text(folder / "plain.bin") == read_text(folder / "packed.bin"));
    for (const std::string& bad : {packed.substr(0, packed.size() - 1), packed + "rest",
                                   std::string("no zstd at all"), std::string()}) {
        write_text(folder / "bad.zst", bad);
        const Error error =
            error_of([&] { prepare({.inputs = {folder / "bad.zst"}, .output = folder / "bad"}); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("bad.zst"));
    }
}

TEST_CASE("gzip files of several members are read to the last byte, or refused",
          "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string text = mixed_text(8, 200000);
    write_text(folder / "plain.txt", text);
    const size_t half = text.size() / 2;
    const std::string first = read_text(gzipped(text.substr(0, half), folder / "first"));
    std::string second = read_text(gzipped(text.substr(half), folder / "second"));
    const std::string nothing = read_text(gzipped("", folder / "nothing"));
    prepare({.inputs = {folder / "plain.txt"}, .output = folder / "plain"});
    for (const std::string& packed : {first + second, nothing + first + nothing + second,
                                      first + second + std::string(300000, '\0')}) {
        write_text(folder / "a.txt.gz", packed);
        prepare({.inputs = {folder / "a.txt.gz"}, .output = folder / "packed"});
        CHECK(read_text(folder / "plain.bin") == read_text(folder / "packed.bin"));
        const FilePipe pipe(folder / "a.txt.gz");
        const StandardInput input(pipe.path());
        prepare({.inputs = {"-"}, .output = folder / "piped"});
        CHECK(read_text(folder / "plain.bin") == read_text(folder / "piped.bin"));
    }
    const std::string padded = first + std::string(9, '\0') + second;
    std::string other_header = second, other_sum = second;
    other_header[0] = '\x1e';
    other_sum[other_sum.size() - 6] ^= 1;
    // Nothing of this may be left out in silence.
    for (const std::string& bad :
         {first + other_header, first + "plain text", first + second.substr(0, 5), padded,
          first + other_sum, first + second.substr(0, second.size() - 1)}) {
        write_text(folder / "bad.gz", bad);
        const Error error =
            error_of([&] { prepare({.inputs = {folder / "bad.gz"}, .output = folder / "bad"}); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("bad.gz") && Contains("near byte"));
        const FilePipe pipe(folder / "bad.gz");
        const StandardInput input(pipe.path());
        const Error of_pipe =
            error_of([&] { prepare({.inputs = {"-"}, .output = folder / "bad"}); });
        CHECK(of_pipe.code() == ExitCode::bad_data);
        CHECK_THAT(of_pipe.what(), Contains("input -") && Contains("near byte"));
    }
}

TEST_CASE("plain text comes whole out of a pipe, however little there is", "[data][prepare]") {
    const TemporaryFolder folder;
    // The second would begin a gzip file, were it not all.
    for (const std::string& text :
         {mixed_text(8, 200000), std::string("\x1f"), std::string("ab")}) {
        write_text(folder / "a.txt", text);
        prepare({.inputs = {folder / "a.txt"}, .output = folder / "file"});
        const FilePipe pipe(folder / "a.txt");
        const StandardInput input(pipe.path());
        prepare({.inputs = {"-"}, .output = folder / "piped"});
        CHECK(read_text(folder / "file.bin") == read_text(folder / "piped.bin"));
    }
}

TEST_CASE("a pattern stands for its files in order", "[data][prepare]") {
    const TemporaryFolder folder;
    for (const char* name : {"b2.txt", "a10.txt", "b1.txt"}) write_text(folder / name, name);
    prepare({.inputs = {folder / "b?.txt", folder / "a*"},
             .output = folder / "out",
             .append_end_of_text = false});
    const IndexedDataset dataset(folder / "out");
    std::vector<int32_t> ids(static_cast<size_t>(dataset.n_tokens()));
    dataset.read(0, ids);
    CHECK(std::string(ids.begin(), ids.end()) == "b1.txtb2.txta10.txt");
    const Error error =
        error_of([&] { prepare({.inputs = {folder / "z*"}, .output = folder / "o"}); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("matches no file"));
    CHECK(error_of([&] {
              prepare({.inputs = {"-"}, .output = folder / "o", .valid_fraction = 0.1});
          }).code() == ExitCode::config);
    CHECK(error_of([&] {
              prepare({.inputs = {"-", "-"}, .output = folder / "o"});
          }).code() == ExitCode::config);
}

TEST_CASE("the format of a file can be given instead of told by its name", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "a.log", "{\"text\": \"one\"}\n");
    CHECK(prepare({.inputs = {folder / "a.log"},
                   .output = folder / "a",
                   .format = TextFormat::json_lines})
              .train.bytes == 3);
    write_text(folder / "b.json", "{\n}\n");
    CHECK(
        prepare({.inputs = {folder / "b.json"}, .output = folder / "c", .format = TextFormat::text})
            .train.bytes == 4);
}

TEST_CASE("a dataset never overwrites what it is made of", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string text = "{\"text\": \"one two\"}\n{\"text\": \"three four\"}\n";
    const auto check = [&](const PrepareOptions& options, const std::string& file) {
        INFO(file);
        const Names before = folder.names();
        const std::string content = read_text(folder / file);
        const Error error = error_of([&] { prepare(options); });
        CHECK(error.code() == ExitCode::output_busy);
        CHECK_THAT(error.what(), Contains(file) && Contains("choose another --output"));
        CHECK(read_text(folder / file) == content);
        CHECK(folder.names() == before);
    };
    for (const std::string file : {"a.json", "a.bin", "a.idx", "a.partial", "a.bin.partial"}) {
        write_text(folder / file, text);
        check({.inputs = {folder / file}, .output = folder / "a", .format = TextFormat::json_lines},
              file);
        std::filesystem::remove(folder / file);
    }
    write_text(folder / "c-valid.json", text);
    check({.inputs = {folder / "c-valid.json"}, .output = folder / "c", .valid_fraction = 0.5},
          "c-valid.json");
    // Other names of the same file.
    write_text(folder / "in.jsonl", text);
    std::filesystem::create_hard_link(folder / "in.jsonl", folder / "hard.bin");
    check({.inputs = {folder / "in.jsonl"}, .output = folder / "hard"}, "in.jsonl");
    std::filesystem::create_symlink(folder / "in.jsonl", folder / "soft.bin");
    check({.inputs = {folder / "in.jsonl"}, .output = folder / "soft"}, "in.jsonl");
    check({.inputs = {folder / "./c-valid.json"}, .output = folder / "c-valid"}, "c-valid.json");
    {
        const StandardInput input(folder / "in.jsonl");
        check({.inputs = {"-"}, .output = folder / "hard", .format = TextFormat::json_lines},
              "hard.bin");
    }
    // One that was made before is replaced.
    for (int i = 0; i < 2; ++i) {
        CHECK(prepare({.inputs = {folder / "in.jsonl"}, .output = folder / "d"}).train.documents ==
              2);
    }
}

TEST_CASE("a dataset never overwrites the file of its tokenizer", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "in.txt", "a text\n");
    const std::string content = ToyVocabulary().json();
    write_text(folder / "tok.json", content);
    for (const std::string ending : {"", ":end=<|endoftext|>"}) {
        const Error error = error_of([&] {
            prepare({.inputs = {folder / "in.txt"},
                     .output = folder / "tok",
                     .tokenizer = folder / "tok.json" + ending});
        });
        CHECK(error.code() == ExitCode::output_busy);
        CHECK_THAT(error.what(), Contains("tokenizer " + (folder / "tok.json")));
        CHECK(read_text(folder / "tok.json") == content);
        CHECK(folder.names() == Names{"in.txt", "tok.json"});
    }
}

}  // namespace
}  // namespace trireme
