#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "data/prepare.h"
#include "data/resumable_dataset_writer.h"
#include "tests/data/data_test_support.h"
#include "tests/data/input_support.h"
#include "tests/data/prepare_test_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;
using Names = std::set<std::string>;

struct Kill {
    int workers;
    int at;  // batch; from the end if not above 0
    bool twice;
};

void check_goes_on(double valid_fraction, const std::vector<Kill>& kills) {
    const TemporaryFolder folder;
    write_text(folder / "toy.json", ToyVocabulary().json());
    write_text(folder / "a.jsonl", json_lines(12000, "first") + "{broken\n");
    gzipped(json_lines(12000, "second") + "[]\n", folder / "b.jsonl.gz");
    write_text(folder / "c.txt", mixed_text(4, 300000));
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

TEST_CASE("the standard input is read as a file is, also after a kill", "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string lines = json_lines(9000, "word");
    write_text(folder / "a.jsonl", lines);
    write_text(folder / "other", json_lines(9000, "bird"));
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
        CHECK(read_text(folder / "out.bin") == read_text(folder / "file.bin"));
        CHECK(read_text(folder / "out.idx") == read_text(folder / "file.idx"));
        {
            const StandardInput input(folder / name);
            REQUIRE(is_killed_after(2, options));
        }
        const StandardInput input(folder / "other");
        CHECK(error_of([&] { prepare(options); }).code() == ExitCode::bad_data);
    }
}

TEST_CASE("what was left of other options or inputs is not gone on from", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "a.txt", mixed_text(4, 900000));
    PrepareOptions options{
        .inputs = {folder / "a.txt"}, .output = folder / "out", .checkpoint_bytes = 1};
    REQUIRE(is_killed_after(1, options));
    REQUIRE(folder.names() ==
            Names{"a.txt", "out.bin.partial", "out.lengths.partial", "out.partial"});
    const int change = GENERATE(0, 1, 2, 3);
    if (change == 0) options.append_end_of_text = false;
    if (change == 1) write_text(folder / "a.txt", mixed_text(5, 900000));
    if (change == 2) std::filesystem::resize_file(folder / "out.bin.partial", 5);
    if (change == 3) {
        std::string state = read_text(folder / "out.partial");
        state[state.find("offset") + 10] ^= 1;
        write_text(folder / "out.partial", state);
    }
    CHECK(prepare(options).resumed_bytes == 0);
    options.output = folder / "new";
    prepare(options);
    CHECK(files_of(folder, "out") == files_of(folder, "new"));
}

TEST_CASE("what an older run noted goes when another begins its files anew", "[data][prepare]") {
    const TemporaryFolder folder;
    // So many lines that the second run has more in each file than the first, before it notes any.
    std::string lines;
    for (int i = 0; i < 300000; ++i) lines += "{\"text\":\"a\",\"b\":\"xyz\"}\n";
    write_text(folder / "a.jsonl", lines);
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
    const TemporaryFolder folder;
    write_text(folder / "out.bin.partial", "four");
    write_text(folder / "out.lengths.partial", "four");
    const DatasetWriterState state{1, 2, 0, 0};
    const int next = ::dup(STDIN_FILENO);
    ::close(next);
    Error error(ExitCode::ok, "");
    for (const int n_more : {0, 1}) {
        {
            const SoftLimit limit(RLIMIT_NOFILE, static_cast<rlim_t>(next + n_more));
            error =
                error_of([&] { ResumableDatasetWriter(folder / "out", TokenType::u16, state); });
        }
        INFO(error.what());
        CHECK(error.code() == ExitCode::io);
        CHECK(folder.names() == Names{"out.bin.partial", "out.lengths.partial"});
    }
    { ResumableDatasetWriter(folder / "out", TokenType::u16, state); }
    CHECK(folder.names().empty());
}

#ifndef __SANITIZE_THREAD__  // which cannot do with so little memory

TEST_CASE("more workers than the system has threads for are refused", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "a.txt", "text");
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        int64_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        const auto bytes = static_cast<rlim_t>(pages * ::getpagesize() + (int64_t{256} << 20));
        const rlimit limit{bytes, bytes};
        ::setrlimit(RLIMIT_AS, &limit);
        const Error error = error_of([&] {
            prepare({.inputs = {folder / "a.txt"}, .output = folder / "out", .workers = 2000});
        });
        const bool is_told = std::string(error.what()).find("lower --workers") != std::string::npos;
        ::_exit(error.code() == ExitCode::config && is_told ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

#endif

TEST_CASE("an interrupted run's compressed input that has changed since is noticed",
          "[data][prepare]") {
    const TemporaryFolder folder;
    const std::string path = folder / "a.txt.zst";
    const std::string text = mixed_text(4, 900000);
    zstd_file(text, path);
    const auto time = std::filesystem::last_write_time(path);
    PrepareOptions options{.inputs = {path}, .output = folder / "out", .checkpoint_bytes = 1};
    REQUIRE(is_killed_after(1, options));
    // Same size and time: only its content tells.
    std::string packed = read_text(path);
    std::string other = text;
    other[100] = other[100] == 'x' ? 'y' : 'x';
    std::string changed = zstd_frame(other);
    changed.resize(packed.size(), '\0');
    write_text(path, changed);
    std::filesystem::last_write_time(path, time);
    const Error error = error_of([&] { prepare(options); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("a.txt.zst"));
    // With the right input again it goes on.
    write_text(path, packed);
    std::filesystem::last_write_time(path, time);
    CHECK(prepare(options).resumed_bytes > 0);
    options.output = folder / "new";
    prepare(options);
    CHECK(files_of(folder, "out") == files_of(folder, "new"));
}

TEST_CASE("after a failure nothing is left to go on from", "[data][prepare]") {
    const TemporaryFolder folder;
    write_text(folder / "a.jsonl", json_lines(30000, "a") + "{\n");
    CHECK(error_of([&] {
              prepare({.inputs = {folder / "a.jsonl"},
                       .output = folder / "out",
                       .checkpoint_bytes = 1});
          }).code() == ExitCode::bad_data);
    CHECK(folder.names() == Names{"a.jsonl"});
}

}  // namespace
}  // namespace trireme
