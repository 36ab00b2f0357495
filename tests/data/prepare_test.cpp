#include "data/prepare.h"

#include <catch2/catch.hpp>

#include "core/crc32c.h"
#include "data/dataset_manifest.h"
#include "data/describe.h"
#include "data/gpt_dataset.h"
#include "data/indexed_dataset.h"
#include "data/sequential_dataset.h"
#include "data/tokenizer.h"
#include "tests/data/data_test_support.h"
#include "tests/data/input_support.h"
#include "tests/data/prepare_test_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;
using Names = std::set<std::string>;

std::string some_text(size_t bytes) {
    std::string text;
    uint32_t state = 12345;
    while (text.size() < bytes) {
        state = state * 1664525u + 1013904223u;
        text.append(state >> 28, static_cast<char>('a' + (state >> 20) % 26));
        text.push_back((state >> 10) % 9 == 0 ? '\n' : ' ');
    }
    text.resize(bytes);
    return text;
}

std::vector<std::string> documents_of(const std::string& prefix) {
    const IndexedDataset dataset(prefix);
    std::vector<std::string> documents;
    for (int64_t i = 0; i < dataset.n_sequences(); ++i) {
        std::vector<int32_t> ids(static_cast<size_t>(dataset.length(i)));
        dataset.read(dataset.start(i), ids);
        REQUIRE(ids.back() == 256);
        documents.push_back(ByteTokenizer().decode(ids));
    }
    return documents;
}

std::string text_of(const std::string& prefix) {
    std::string text;
    for (const std::string& document : documents_of(prefix)) text += document;
    return text;
}

TEST_CASE("every byte survives the byte tokenizer", "[data][tokenizer]") {
    std::string text;
    for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(i));
    const auto tokenizer = make_tokenizer("byte");
    std::vector<int32_t> ids{7};
    tokenizer->encode(text, ids);
    REQUIRE(ids.size() == 257);
    CHECK(ids[256] == 255);
    ids.push_back(tokenizer->end_of_text());
    CHECK(tokenizer->decode(std::span(ids).subspan(1)) == text);
    CHECK(tokenizer->vocab_size() == 257);
    ids.push_back(257);
    CHECK(error_of([&] { tokenizer->decode(ids); }).code() == ExitCode::bad_data);
    const Error error = error_of([] { make_tokenizer("gpt2.json"); });
    CHECK(error.code() == ExitCode::config);
    CHECK_THAT(error.what(), Contains("gpt2.json") && Contains("no such file"));
}

TEST_CASE("plain text is cut at line ends and nothing is lost", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string text = some_text(3500001) + "\xff\x80 no line end at the end";
    write_text(folder / "in.txt", text);
    int64_t done = 0, total = 0;
    const PrepareResult result = prepare({.inputs = {folder / "in.txt"},
                                          .output = folder / "new/out",
                                          .progress = [&](const PrepareOptions::Progress& at) {
                                              done = at.done;
                                              total = at.total;
                                          }});
    CHECK(done == static_cast<int64_t>(text.size()));
    CHECK(total == done);
    CHECK(result.prefixes == std::vector<std::string>{folder / "new/out"});
    const auto documents = documents_of(folder / "new/out");
    CHECK(documents.size() == 4);
    CHECK(result.train.documents == 4);
    CHECK(result.train.bytes == static_cast<int64_t>(text.size()));
    CHECK(result.train.tokens == static_cast<int64_t>(text.size()) + 4);
    for (size_t i = 0; i + 1 < documents.size(); ++i) {
        CHECK(documents[i].back() == '\n');
        CHECK(documents[i].size() <= size_t{1} << 20);
        CHECK(documents[i].size() > (size_t{1} << 20) - 2000);
    }
    CHECK(text_of(folder / "new/out") == text);
    CHECK(describe_dataset({folder / "new/out"}).token_type == "uint16");
}

TEST_CASE("the output does not depend on the number of workers", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "a.txt", some_text(9000017));
    std::string lines;
    for (int i = 0; i < 20000; ++i) {
        lines += "{\"text\": \"line " + std::to_string(i) + " \\u00e9\\n\", \"id\": 3}\n";
    }
    write_text(folder / "b.jsonl", lines);
    gzipped(some_text(2000003), folder / "c.txt.gz");
    for (const int workers : {1, 3, 8}) {
        prepare({.inputs = {folder / "a.txt", folder / "b.jsonl", folder / "c.txt.gz"},
                 .output = folder / ("out" + std::to_string(workers)),
                 .valid_fraction = 0.13,
                 .workers = workers});
    }
    for (const char* end : {"-train.bin", "-train.idx", "-valid.bin", "-valid.idx"}) {
        CHECK(!read_text(folder / (std::string("out1") + end)).empty());
        CHECK(read_text(folder / (std::string("out1") + end)) ==
              read_text(folder / (std::string("out3") + end)));
        CHECK(read_text(folder / (std::string("out1") + end)) ==
              read_text(folder / (std::string("out8") + end)));
    }
}

TEST_CASE("the held-out part is the tail, in the fraction asked for", "[data][prepare]") {
    const size_t bytes = GENERATE(size_t{1000}, size_t{100003}, size_t{2600000});
    const double fraction = GENERATE(0.01, 0.1, 0.5, 0.9);
    const TemporaryFolder folder;
    const std::string text = some_text(bytes);
    write_text(folder / "in", text);
    const PrepareResult result =
        prepare({.inputs = {folder / "in"}, .output = folder / "out", .valid_fraction = fraction});
    CHECK(result.prefixes == std::vector<std::string>{folder / "out-train", folder / "out-valid"});
    const std::string train = text_of(folder / "out-train");
    CHECK(train + text_of(folder / "out-valid") == text);
    const double held_out = fraction * static_cast<double>(bytes);
    CHECK(static_cast<double>(result.valid.bytes) >= held_out - 1);
    CHECK(static_cast<double>(result.valid.bytes) <= held_out + 700);
    CHECK(result.train.bytes + result.valid.bytes == static_cast<int64_t>(bytes));
}

TEST_CASE("whole JSON lines are held out, and whole files where the cut falls between two",
          "[data][prepare]") {
    const TemporaryFolder folder;
    std::string lines;
    for (char c = 'a'; c <= 'j'; ++c) lines += std::string("{\"text\": \"") + c + "\"}\n";
    write_text(folder / "in.jsonl", lines);
    prepare({.inputs = {folder / "in.jsonl"}, .output = folder / "out", .valid_fraction = 0.3});
    CHECK(text_of(folder / "out-train") == "abcdefg");
    CHECK(documents_of(folder / "out-valid") == std::vector<std::string>{"h", "i", "j"});

    write_text(folder / "a", "no line end");
    write_text(folder / "b", "as long too");
    prepare(
        {.inputs = {folder / "a", folder / "b"}, .output = folder / "ab", .valid_fraction = 0.5});
    CHECK(documents_of(folder / "ab-train") == std::vector<std::string>{"no line end"});
    CHECK(documents_of(folder / "ab-valid") == std::vector<std::string>{"as long too"});
}

TEST_CASE("the held-out part of a gzip file does not depend on its name", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string text = some_text(300000);
    gzipped(text, folder / "in.txt");
    REQUIRE(read_text(folder / "in.txt").size() < 250000);
    const PrepareResult result =
        prepare({.inputs = {folder / "in.txt"}, .output = folder / "out", .valid_fraction = 0.3});
    CHECK(result.valid.bytes >= 90000 - 1);
    CHECK(result.valid.bytes <= 90000 + 700);
    CHECK(text_of(folder / "out-train") + text_of(folder / "out-valid") == text);
}

TEST_CASE("text without line ends is cut between characters", "[data][prepare]") {
    const TemporaryFolder folder;
    std::string text;
    while (text.size() < 2500000) text += "a\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9";
    write_text(folder / "in", text);
    prepare({.inputs = {folder / "in"}, .output = folder / "out", .valid_fraction = 0.31});
    CHECK(text_of(folder / "out-train") + text_of(folder / "out-valid") == text);
    for (const char* part : {"out-train", "out-valid"}) {
        for (const std::string& document : documents_of(folder / part)) {
            CHECK((static_cast<unsigned char>(document[0]) & 0xC0u) != 0x80u);
        }
    }
    write_text(folder / "in", std::string(1500000, '\x80'));
    CHECK(prepare({.inputs = {folder / "in"}, .output = folder / "out"}).train.bytes == 1500000);
}

TEST_CASE("each JSON line is a document, blank lines and empty texts are none", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string long_text(2500000, 'x');
    write_text(folder / "a.jsonl",
               "{\"t\":\"one\\n\\u20ac\"}\r\n\n  \n{\"t\":\"\"}\n{\"t\":\"" + long_text + "\"}\n");
    gzipped("{\"x\":[1],\"t\":\"last\"}", folder / "b.jsonl.gz");
    prepare({.inputs = {folder / "a.jsonl", folder / "b.jsonl.gz"},
             .output = folder / "out",
             .text_key = "t"});
    CHECK(documents_of(folder / "out") ==
          std::vector<std::string>{"one\n\xe2\x82\xac", long_text, "last"});
    prepare({.inputs = {folder / "b.jsonl.gz"},
             .output = folder / "bare",
             .text_key = "t",
             .append_end_of_text = false});
    CHECK(describe_dataset({folder / "bare"}).tokens == 4);
}

TEST_CASE("a bad JSON line is named and leaves nothing", "[data][prepare]") {
    struct Case {
        std::string line;
        std::string message;
    };
    const auto bad = GENERATE(values<Case>({
        {"{\"text\": \"cut off", "not valid JSON"},
        {"{\"text\": \"a\"", "not valid JSON"},
        {"{\"text\": \"a\"} {\"text\": \"b\"}", "not valid JSON"},
        {"{\"text\": \"ab\xff\"}", "not UTF-8 at byte 13 of the line"},
        {"{\"text\": x, \"\xff\": 1}", "not valid JSON"},
        {std::string("{\"text\": \"a\"}") + '\0' + " lost", "byte 14 of the line, a zero byte"},
        {"[\"text\"]", "found a JSON array"},
        {"{\"body\": \"a\", \"id\": 3}", "no key 'text'; keys found: body, id"},
        {"{}", "keys found: none"},
        {"{\"text\": 3}", "key 'text' holds a JSON number, expected a string"},
    }));
    const int workers = GENERATE(1, 3);
    const TemporaryFolder folder;
    std::string lines;
    for (int i = 0; i < 10000; ++i) lines += "{\"text\": \"fine\"}\n";
    write_text(folder / "in.jsonl", lines + "\n" + bad.line + "\n{also bad\n");
    const Error error = error_of([&] {
        prepare({.inputs = {folder / "in.jsonl"}, .output = folder / "out", .workers = workers});
    });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("in.jsonl:10002: ") && Contains(bad.message));
    CHECK(folder.names() == Names{"in.jsonl"});
}

TEST_CASE("inputs that cannot become a corpus are refused and leave nothing", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "empty.txt", "");
    write_text(folder / "blank.jsonl", "\n{\"text\":\"\"}\n");
    write_text(folder / "plain.gz", "not compressed");
    write_text(folder / "one.txt", "a");
    gzipped(some_text(300000), folder / "good.gz");
    const std::string packed = read_text(folder / "good.gz");
    write_text(folder / "cut.gz", packed.substr(0, packed.size() - 9));
    std::string damaged = packed;
    damaged[packed.size() - 6] ^= 1;
    write_text(folder / "damaged.dz", damaged);
    const Names before = folder.names();

    const auto preparing = [&](std::vector<std::string> inputs, PrepareOptions options = {}) {
        options.inputs = std::move(inputs);
        options.output = folder / "out";
        return error_of([&] { prepare(options); });
    };
    const std::string good = folder / "good.gz";
    for (const char* bad :
         {"empty.txt", "blank.jsonl", "plain.gz", "cut.gz", "damaged.dz", "missing.txt", "."}) {
        const Error error = preparing({folder / bad});
        INFO(error.what());
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(folder / bad));
    }
    CHECK(preparing({good, folder / "cut.gz"}).code() == ExitCode::bad_data);
    CHECK(preparing({good, folder / "missing.txt"}).code() == ExitCode::bad_data);
    CHECK(preparing({folder / "one.txt"}, {.valid_fraction = 0.5}).code() == ExitCode::bad_data);
    CHECK(preparing({good}, {.tokenizer = "gpt2"}).code() == ExitCode::config);
    CHECK(preparing({good}, {.valid_fraction = 1.0}).code() == ExitCode::config);
    CHECK(preparing({good}, {.valid_fraction = -0.1}).code() == ExitCode::config);
    CHECK(preparing({good}, {.workers = 0}).code() == ExitCode::config);
    CHECK(preparing({}).code() == ExitCode::config);
    CHECK(folder.names() == before);
}

TEST_CASE("an output that cannot be written is refused and leaves nothing", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "in.txt", "some text\nto learn from\n");
    std::filesystem::create_directory(folder / "out-valid.idx");
    const Names before = folder.names();
    const Error error = error_of(
        [&] { prepare({.inputs = {folder / "in.txt"}, .output = folder / "in.txt/out"}); });
    CHECK(error.code() == ExitCode::output_busy);
    CHECK(error_of([&] {
              prepare(
                  {.inputs = {folder / "in.txt"}, .output = folder / "out", .valid_fraction = 0.4});
          }).code() == ExitCode::output_busy);
    CHECK(error_of([&] {
              prepare({.inputs = {folder / "in.txt"}, .output = "/proc/none/out"});
          }).code() == ExitCode::output_busy);
    CHECK(folder.names() == before);
}

TEST_CASE("the manifest beside a dataset tells what it is", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "toy.json", ToyVocabulary().json());
    write_text(folder / "a.jsonl", json_lines(100, "a"));
    prepare({.inputs = {folder / "a.jsonl"},
             .output = folder / "out",
             .tokenizer = folder / "toy.json"});
    const auto manifest = read_manifest(folder / "out");
    REQUIRE(manifest);
    CHECK(manifest->documents == 100);
    CHECK(manifest->vocab_size == 285);
    CHECK(manifest->end_of_text == 284);
    CHECK(manifest->largest_id == 284);
    CHECK(manifest->token_type == "uint16");
    const std::string bin = read_text(folder / "out.bin");
    const std::string idx = read_text(folder / "out.idx");
    CHECK(manifest->bin.bytes == static_cast<int64_t>(bin.size()));
    CHECK(manifest->bin.checksum == crc32c(bin.data(), bin.size()));
    CHECK(manifest->idx.bytes == static_cast<int64_t>(idx.size()));
    CHECK(manifest->idx.checksum == crc32c(idx.data(), idx.size()));

    CHECK(compare_with_manifest(folder / "out").value().empty());
    write_text(folder / "out.bin", std::string(bin.size(), '\0'));
    const auto differences = compare_with_manifest(folder / "out").value();
    REQUIRE(differences.size() == 1);
    CHECK_THAT(differences[0], Contains("out.bin does not have the checksum"));
    write_text(folder / "out.bin", bin);
    write_counting_dataset(folder / "bare", {3});
    CHECK_FALSE(compare_with_manifest(folder / "bare").has_value());

    GptDatasetOptions options{.sequence_length = 8, .n_samples = 4, .seed = 1, .vocab_size = 285};
    GptDataset(DataSourceOptions{folder / "out"}, options);
    options.vocab_size = 284;
    const Error error = error_of([&] { GptDataset(DataSourceOptions{folder / "out"}, options); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("token id 284") && Contains("vocab_size is 284"));
    CHECK(error_of([&] { make_sequential_dataset({folder / "out"}, 8, 284); }).code() ==
          ExitCode::bad_data);

    write_text(folder / "out.json", "{\"format\": \"trireme-dataset\", \"version\": 1}");
    CHECK(error_of([&] { read_manifest(folder / "out"); }).code() == ExitCode::bad_data);
    CHECK(describe_dataset({folder / "out"}).documents == 100);
    write_text(folder / "out.json", "{\"by\": \"another program\"}");
    CHECK_FALSE(read_manifest(folder / "out"));
}

}  // namespace
}  // namespace trireme
