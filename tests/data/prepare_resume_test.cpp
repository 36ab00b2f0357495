#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>

#include "core/crc32c.h"
#include "data/dataset_manifest.h"
#include "data/describe.h"
#include "data/gpt_dataset.h"
#include "data/prepare.h"
#include "data/resumable_dataset_writer.h"
#include "data/sequential_dataset.h"
#include "tests/data/data_test_support.h"
#include "tests/data/prepare_test_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;
using Names = std::set<std::string>;

std::string gzipped(const std::string& text, const std::string& path) {
    gzFile file = ::gzopen(path.c_str(), "wb");
    ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    ::gzclose(file);
    return path;
}

std::string zstd_frame(const std::string& text) {
    std::string packed(::ZSTD_compressBound(text.size()), '\0');
    packed.resize(::ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
    return packed;
}

std::string zstd_file(const std::string& text, const std::string& path) {
    write_bytes(path, zstd_frame(text));
    return path;
}

struct Kill {
    int workers;
    int at;  // batch; from the end if not above 0
    bool twice;
};

void check_goes_on(double valid_fraction, const std::vector<Kill>& kills) {
    const TestFolder folder;
    write_bytes(folder / "toy.json", ToyVocabulary().json());
    write_bytes(folder / "a.jsonl", json_lines(12000, "first") + "{broken\n");
    gzipped(json_lines(12000, "second") + "[]\n", folder / "b.jsonl.gz");
    write_bytes(folder / "c.txt", mixed_text(4, 300000));
    zstd_file(mixed_text(5, 300000), folder / "d.txt.zst");
    PrepareOptions options{
        .inputs = {folder / "[ab].jsonl*", folder / "c.txt", folder / "d.txt.zst"},
        .tokenizer = folder / "toy.json",
        .valid_fraction = valid_fraction,
        .on_bad_line = BadLine::skip,
        .checkpoint_bytes = 80000};
    options.output = folder / "whole";
    int n_batches = 0;
    options.progress = [&](const PrepareOptions::Progress&) { ++n_batches; };
    const PrepareResult whole = prepare(options);
    options.progress = {};
    CHECK(whole.skipped_lines == 2);
    REQUIRE(n_batches > 12);
    const auto expected = files_of(folder, "whole");
    CHECK(expected.size() == (options.valid_fraction == 0.0 ? 3 : 6));

    for (Kill kill : kills) {
        if (kill.at <= 0) kill.at += n_batches;
        INFO(kill.workers << " workers, killed after " << kill.at);
        options.workers = kill.workers;
        options.output = folder / "killed";
        REQUIRE(is_killed_after(kill.at, options));
        if (kill.twice) REQUIRE(is_killed_after(2, options));
        CHECK(folder.names().contains("killed.partial") == (kill.at > 1));
        const PrepareResult result = prepare(options);
        CHECK(files_of(folder, "killed") == expected);
        CHECK((result.resumed_bytes > 0) == (kill.at > 1));
        CHECK(result.skipped_lines == 2);
        CHECK(result.train.bytes == whole.train.bytes);
        CHECK(result.valid.tokens == whole.valid.tokens);
        for (const auto& [end, content] : expected) {
            std::filesystem::remove(folder / ("killed" + end));
        }
    }
}

TEST_CASE("a killed preparation goes on and gives the same files", "[data][prepare]") {
    check_goes_on(0.3, {{1, 1, false}, {3, 2, true}, {1, 0, false}});
}

TEST_CASE("a preparation killed at many places goes on and gives the same files",
          "[data][prepare][long]") {
    const double valid_fraction = GENERATE(0.0, 0.3);
    check_goes_on(valid_fraction, {{1, 1, false},
                                   {3, 2, true},
                                   {8, 5, false},
                                   {1, 9, true},
                                   {8, 7, false},
                                   {3, -1, false},
                                   {1, 0, false}});
}

// The standard input is this file while it lives.
class StandardInput {
public:
    explicit StandardInput(const std::string& path) : saved_(::dup(STDIN_FILENO)) {
        const int file = ::open(path.c_str(), O_RDONLY);
        REQUIRE(::dup2(file, STDIN_FILENO) == STDIN_FILENO);
        ::close(file);
    }
    ~StandardInput() {
        ::dup2(saved_, STDIN_FILENO);
        ::close(saved_);
    }
    StandardInput(const StandardInput&) = delete;
    StandardInput& operator=(const StandardInput&) = delete;

private:
    int saved_;
};

// A pipe out of which this file comes, its first byte alone.
class FilePipe {
public:
    explicit FilePipe(const std::string& path)
        : pipe_(::popen(("head -c 1 '" + path + "'; sleep 0.05; tail -c +2 '" + path + "'").c_str(),
                        "r")) {
        REQUIRE(pipe_ != nullptr);
    }
    ~FilePipe() { ::pclose(pipe_); }
    FilePipe(const FilePipe&) = delete;
    FilePipe& operator=(const FilePipe&) = delete;

    std::string path() const { return "/dev/fd/" + std::to_string(::fileno(pipe_)); }

private:
    FILE* pipe_;
};

TEST_CASE("the standard input is read as a file is, also after a kill", "[data][prepare]") {
    const TestFolder folder;
    const std::string lines = json_lines(9000, "word");
    write_bytes(folder / "a.jsonl", lines);
    write_bytes(folder / "other", json_lines(9000, "bird"));
    gzipped(lines, folder / "packed");
    prepare({.inputs = {folder / "a.jsonl"}, .output = folder / "file"});
    PrepareOptions options{.inputs = {"-"},
                           .output = folder / "out",
                           .format = TextFormat::json_lines,
                           .checkpoint_bytes = 1};
    for (const char* name : {"a.jsonl", "packed"}) {
        {
            const StandardInput input(folder / name);
            REQUIRE(is_killed_after(2, options));
        }
        {
            const StandardInput input(folder / name);
            CHECK(prepare(options).resumed_bytes > 0);
        }
        CHECK(read_bytes(folder / "out.bin") == read_bytes(folder / "file.bin"));
        CHECK(read_bytes(folder / "out.idx") == read_bytes(folder / "file.idx"));
        {
            const StandardInput input(folder / name);
            REQUIRE(is_killed_after(2, options));
        }
        const StandardInput input(folder / "other");
        CHECK(caught([&] { prepare(options); }).code == ExitCode::bad_data);
    }
}

TEST_CASE("what was left of other options or inputs is not gone on from", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "a.txt", mixed_text(4, 900000));
    PrepareOptions options{
        .inputs = {folder / "a.txt"}, .output = folder / "out", .checkpoint_bytes = 1};
    REQUIRE(is_killed_after(1, options));
    REQUIRE(folder.names() ==
            Names{"a.txt", "out.bin.partial", "out.lengths.partial", "out.partial"});
    const int change = GENERATE(0, 1, 2, 3);
    if (change == 0) options.append_end_of_text = false;
    if (change == 1) write_bytes(folder / "a.txt", mixed_text(5, 900000));
    if (change == 2) std::filesystem::resize_file(folder / "out.bin.partial", 5);
    if (change == 3) {
        std::string state = read_bytes(folder / "out.partial");
        state[state.find("offset") + 10] ^= 1;
        write_bytes(folder / "out.partial", state);
    }
    CHECK(prepare(options).resumed_bytes == 0);
    options.output = folder / "new";
    prepare(options);
    CHECK(files_of(folder, "out") == files_of(folder, "new"));
}

TEST_CASE("what an older run noted goes when another begins its files anew", "[data][prepare]") {
    const TestFolder folder;
    // So many lines that the second run has more in each file than the first, before it notes any.
    std::string lines;
    for (int i = 0; i < 300000; ++i) lines += "{\"text\":\"a\",\"b\":\"xyz\"}\n";
    write_bytes(folder / "a.jsonl", lines);
    PrepareOptions first{
        .inputs = {folder / "a.jsonl"}, .output = folder / "out", .checkpoint_bytes = 1};
    PrepareOptions second = first;
    second.text_key = "b";
    second.checkpoint_bytes = int64_t{1} << 40;
    REQUIRE(is_killed_after(1, first));
    REQUIRE(folder.names().contains("out.partial"));
    REQUIRE(is_killed_after(140, second));
    REQUIRE(std::filesystem::file_size(folder / "out.lengths.partial") > 500000);
    CHECK_FALSE(folder.names().contains("out.partial"));
    CHECK(prepare(first).resumed_bytes == 0);
    first.output = folder / "new";
    prepare(first);
    CHECK(files_of(folder, "out") == files_of(folder, "new"));
}

// The soft limit of a resource is this while it lives.
class SoftLimit {
public:
    SoftLimit(decltype(RLIMIT_NOFILE) resource, rlim_t limit) : resource_(resource) {
        REQUIRE(::getrlimit(resource_, &saved_) == 0);
        const rlimit changed{limit, saved_.rlim_max};
        REQUIRE(::setrlimit(resource_, &changed) == 0);
    }
    ~SoftLimit() { ::setrlimit(resource_, &saved_); }
    SoftLimit(const SoftLimit&) = delete;
    SoftLimit& operator=(const SoftLimit&) = delete;

private:
    decltype(RLIMIT_NOFILE) resource_;
    rlimit saved_{};
};

TEST_CASE("too many open files are no reason to lose what a killed run wrote", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "out.bin.partial", "four");
    write_bytes(folder / "out.lengths.partial", "four");
    const DatasetWriterState state{1, 2, 0, 0};
    const int next = ::dup(STDIN_FILENO);
    ::close(next);
    Caught error;
    for (const int n_more : {0, 1}) {
        {
            const SoftLimit limit(RLIMIT_NOFILE, static_cast<rlim_t>(next + n_more));
            error = caught([&] { ResumableDatasetWriter(folder / "out", TokenType::u16, state); });
        }
        INFO(error.message);
        CHECK(error.code == ExitCode::io);
        CHECK(folder.names() == Names{"out.bin.partial", "out.lengths.partial"});
    }
    { ResumableDatasetWriter(folder / "out", TokenType::u16, state); }
    CHECK(folder.names().empty());
}

#ifndef __SANITIZE_THREAD__  // which cannot do with so little memory

TEST_CASE("more workers than the system has threads for are refused", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "a.txt", "text");
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        int64_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        const auto bytes = static_cast<rlim_t>(pages * ::getpagesize() + (int64_t{256} << 20));
        const rlimit limit{bytes, bytes};
        ::setrlimit(RLIMIT_AS, &limit);
        const Caught error = caught([&] {
            prepare({.inputs = {folder / "a.txt"}, .output = folder / "out", .workers = 2000});
        });
        const bool is_told = error.message.find("lower --workers") != std::string::npos;
        ::_exit(error.code == ExitCode::config && is_told ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

#endif

TEST_CASE("an interrupted run's compressed input that has changed since is noticed",
          "[data][prepare]") {
    const TestFolder folder;
    const std::string path = folder / "a.txt.zst";
    const std::string text = mixed_text(4, 900000);
    zstd_file(text, path);
    const auto time = std::filesystem::last_write_time(path);
    PrepareOptions options{.inputs = {path}, .output = folder / "out", .checkpoint_bytes = 1};
    REQUIRE(is_killed_after(1, options));
    // Same size and time: only its content tells.
    std::string packed = read_bytes(path);
    std::string other = text;
    other[100] = other[100] == 'x' ? 'y' : 'x';
    std::string changed = zstd_frame(other);
    changed.resize(packed.size(), '\0');
    write_bytes(path, changed);
    std::filesystem::last_write_time(path, time);
    const Caught error = caught([&] { prepare(options); });
    CHECK(error.code == ExitCode::bad_data);
    CHECK_THAT(error.message, Contains("a.txt.zst"));
    // With the right input again it goes on.
    write_bytes(path, packed);
    std::filesystem::last_write_time(path, time);
    CHECK(prepare(options).resumed_bytes > 0);
    options.output = folder / "new";
    prepare(options);
    CHECK(files_of(folder, "out") == files_of(folder, "new"));
}

TEST_CASE("after a failure nothing is left to go on from", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "a.jsonl", json_lines(30000, "a") + "{\n");
    CHECK(caught([&] {
              prepare({.inputs = {folder / "a.jsonl"},
                       .output = folder / "out",
                       .checkpoint_bytes = 1});
          }).code == ExitCode::bad_data);
    CHECK(folder.names() == Names{"a.jsonl"});
}

TEST_CASE("bad lines are skipped, told and counted when asked for", "[data][prepare]") {
    const TestFolder folder;
    const std::string long_line =
        "{\"text\": \"" + std::string(DocumentStream::kMaxLineBytes + 5, 'x') + "\"}\n";
    write_bytes(folder / "a.jsonl", "{\"text\": \"one\"}\n{\"text\": 3}\n" + long_line +
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
    CHECK_THAT(told[3], Contains("a.jsonl:6: not valid JSON"));
    options.on_bad_line = BadLine::fail;
    CHECK_THAT(caught([&] { prepare(options); }).message, Contains("a.jsonl:2: "));
}

TEST_CASE("zstd files of several frames are read, damaged ones refused", "[data][prepare]") {
    const TestFolder folder;
    const std::string text = mixed_text(8, 200000);
    write_bytes(folder / "plain.txt", text);
    const size_t half = text.size() / 2;
    const std::string packed = zstd_frame(text.substr(0, half)) + zstd_frame(text.substr(half));
    write_bytes(folder / "a.txt.zst", packed);
    prepare({.inputs = {folder / "plain.txt"}, .output = folder / "plain"});
    prepare({.inputs = {folder / "a.txt.zst"}, .output = folder / "packed"});
    CHECK(read_bytes(folder / "plain.bin") == read_bytes(folder / "packed.bin"));
    for (const std::string& bad : {packed.substr(0, packed.size() - 1), packed + "rest",
                                   std::string("no zstd at all"), std::string()}) {
        write_bytes(folder / "bad.zst", bad);
        const Caught error =
            caught([&] { prepare({.inputs = {folder / "bad.zst"}, .output = folder / "bad"}); });
        CHECK(error.code == ExitCode::bad_data);
        CHECK_THAT(error.message, Contains("bad.zst"));
    }
}

TEST_CASE("gzip files of several members are read to the last byte, or refused",
          "[data][prepare]") {
    const TestFolder folder;
    const std::string text = mixed_text(8, 200000);
    write_bytes(folder / "plain.txt", text);
    const size_t half = text.size() / 2;
    const std::string first = read_bytes(gzipped(text.substr(0, half), folder / "first"));
    std::string second = read_bytes(gzipped(text.substr(half), folder / "second"));
    const std::string nothing = read_bytes(gzipped("", folder / "nothing"));
    prepare({.inputs = {folder / "plain.txt"}, .output = folder / "plain"});
    for (const std::string& packed : {first + second, nothing + first + nothing + second,
                                      first + second + std::string(300000, '\0')}) {
        write_bytes(folder / "a.txt.gz", packed);
        prepare({.inputs = {folder / "a.txt.gz"}, .output = folder / "packed"});
        CHECK(read_bytes(folder / "plain.bin") == read_bytes(folder / "packed.bin"));
        const FilePipe pipe(folder / "a.txt.gz");
        const StandardInput input(pipe.path());
        prepare({.inputs = {"-"}, .output = folder / "piped"});
        CHECK(read_bytes(folder / "plain.bin") == read_bytes(folder / "piped.bin"));
    }
    const std::string padded = first + std::string(9, '\0') + second;
    std::string other_header = second, other_sum = second;
    other_header[0] = '\x1e';
    other_sum[other_sum.size() - 6] ^= 1;
    // Nothing of this may be left out in silence.
    for (const std::string& bad :
         {first + other_header, first + "plain text", first + second.substr(0, 5), padded,
          first + other_sum, first + second.substr(0, second.size() - 1)}) {
        write_bytes(folder / "bad.gz", bad);
        const Caught error =
            caught([&] { prepare({.inputs = {folder / "bad.gz"}, .output = folder / "bad"}); });
        CHECK(error.code == ExitCode::bad_data);
        CHECK_THAT(error.message, Contains("bad.gz") && Contains("near byte"));
        const FilePipe pipe(folder / "bad.gz");
        const StandardInput input(pipe.path());
        const Caught of_pipe =
            caught([&] { prepare({.inputs = {"-"}, .output = folder / "bad"}); });
        CHECK(of_pipe.code == ExitCode::bad_data);
        CHECK_THAT(of_pipe.message, Contains("input -") && Contains("near byte"));
    }
}

TEST_CASE("plain text comes whole out of a pipe, however little there is", "[data][prepare]") {
    const TestFolder folder;
    // The second would begin a gzip file, were it not all.
    for (const std::string& text :
         {mixed_text(8, 200000), std::string("\x1f"), std::string("ab")}) {
        write_bytes(folder / "a.txt", text);
        prepare({.inputs = {folder / "a.txt"}, .output = folder / "file"});
        const FilePipe pipe(folder / "a.txt");
        const StandardInput input(pipe.path());
        prepare({.inputs = {"-"}, .output = folder / "piped"});
        CHECK(read_bytes(folder / "file.bin") == read_bytes(folder / "piped.bin"));
    }
}

TEST_CASE("a pattern stands for its files in order", "[data][prepare]") {
    const TestFolder folder;
    for (const char* name : {"b2.txt", "a10.txt", "b1.txt"}) write_bytes(folder / name, name);
    prepare({.inputs = {folder / "b?.txt", folder / "a*"},
             .output = folder / "out",
             .append_end_of_text = false});
    const IndexedDataset dataset(folder / "out");
    std::vector<int32_t> ids(static_cast<size_t>(dataset.n_tokens()));
    dataset.read(0, ids);
    CHECK(std::string(ids.begin(), ids.end()) == "b1.txtb2.txta10.txt");
    const Caught error =
        caught([&] { prepare({.inputs = {folder / "z*"}, .output = folder / "o"}); });
    CHECK(error.code == ExitCode::bad_data);
    CHECK_THAT(error.message, Contains("matches no file"));
    CHECK(caught([&] {
              prepare({.inputs = {"-"}, .output = folder / "o", .valid_fraction = 0.1});
          }).code == ExitCode::config);
    CHECK(caught([&] {
              prepare({.inputs = {"-", "-"}, .output = folder / "o"});
          }).code == ExitCode::config);
}

TEST_CASE("the format of a file can be given instead of told by its name", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "a.log", "{\"text\": \"one\"}\n");
    CHECK(prepare({.inputs = {folder / "a.log"},
                   .output = folder / "a",
                   .format = TextFormat::json_lines})
              .train.bytes == 3);
    write_bytes(folder / "b.json", "{\n}\n");
    CHECK(
        prepare({.inputs = {folder / "b.json"}, .output = folder / "b", .format = TextFormat::text})
            .train.bytes == 4);
}

TEST_CASE("the manifest beside a dataset tells what it is", "[data][prepare]") {
    const TestFolder folder;
    write_bytes(folder / "toy.json", ToyVocabulary().json());
    write_bytes(folder / "a.jsonl", json_lines(100, "a"));
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
    const std::string bin = read_bytes(folder / "out.bin");
    const std::string idx = read_bytes(folder / "out.idx");
    CHECK(manifest->bin.bytes == static_cast<int64_t>(bin.size()));
    CHECK(manifest->bin.checksum == crc32c(bin.data(), bin.size()));
    CHECK(manifest->idx.bytes == static_cast<int64_t>(idx.size()));
    CHECK(manifest->idx.checksum == crc32c(idx.data(), idx.size()));

    CHECK(compare_with_manifest(folder / "out").value().empty());
    write_bytes(folder / "out.bin", std::string(bin.size(), '\0'));
    const auto differences = compare_with_manifest(folder / "out").value();
    REQUIRE(differences.size() == 1);
    CHECK_THAT(differences[0], Contains("out.bin does not have the checksum"));
    write_bytes(folder / "out.bin", bin);
    write_counting_dataset(folder / "bare", {3});
    CHECK_FALSE(compare_with_manifest(folder / "bare").has_value());

    GptDatasetOptions options{.sequence_length = 8, .n_samples = 4, .seed = 1, .vocab_size = 285};
    GptDataset(DataSourceOptions{folder / "out"}, options);
    options.vocab_size = 284;
    const Caught error = caught([&] { GptDataset(DataSourceOptions{folder / "out"}, options); });
    CHECK(error.code == ExitCode::bad_data);
    CHECK_THAT(error.message, Contains("token id 284") && Contains("vocab_size is 284"));
    CHECK(caught([&] { make_sequential_dataset({folder / "out"}, 8, 284); }).code ==
          ExitCode::bad_data);

    write_bytes(folder / "out.json", "{\"format\": \"trireme-dataset\", \"version\": 1}");
    CHECK(caught([&] { read_manifest(folder / "out"); }).code == ExitCode::bad_data);
    CHECK(describe_dataset({folder / "out"}).documents == 100);
    write_bytes(folder / "out.json", "{\"by\": \"another program\"}");
    CHECK_FALSE(read_manifest(folder / "out"));
}

}  // namespace
}  // namespace trireme
