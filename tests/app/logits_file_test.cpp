#include "app/logits_file.h"

#include <sys/resource.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>

#include "core/error.h"
#include "tests/core/temporary_folder.h"

namespace trireme::test {

namespace {

using Catch::Contains;

constexpr int64_t kWindows = 3, kLength = 5, kVocabulary = 7;
constexpr LogitsShape kShape{kWindows, kLength, kVocabulary};

class CountedTokens final : public SampleSource {
public:
    int64_t size() const override { return kWindows; }
    int64_t sequence_length() const override { return kLength; }
    void read(int64_t, std::span<int32_t> tokens, std::span<int32_t> labels) const override {
        std::fill(tokens.begin(), tokens.end(), 1);
        std::fill(labels.begin(), labels.end(), 2);
    }
    int64_t document_begins(int64_t, std::span<int32_t>) const override { return 0; }
};

// While it lives, writing behind the first `bytes` of a file is an error.
class SmallFiles {
public:
    explicit SmallFiles(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        REQUIRE(getrlimit(RLIMIT_FSIZE, &former_) == 0);
        const rlimit limit{bytes, former_.rlim_max};
        REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    }
    ~SmallFiles() {
        setrlimit(RLIMIT_FSIZE, &former_);
        std::signal(SIGXFSZ, handler_);
    }
    SmallFiles(const SmallFiles&) = delete;
    SmallFiles& operator=(const SmallFiles&) = delete;

private:
    void (*handler_)(int);
    rlimit former_{};
};

// The first rank writes one row, the second one all others. What each rank's error was.
std::vector<Error> write_on_two(const std::string& path,
                                const std::function<void()>& before_logits) {
    std::vector<Error> outcomes(2, Error(ExitCode::ok, ""));
    run_thread_ranks(2, [&](World& world) {
        ControlGroup control(world, "logits");
        try {
            LogitsFile file(control, path, CountedTokens(), kShape, false);
            control.barrier();
            if (world.rank() == 0) before_logits();
            control.barrier();
            const bool is_first = world.rank() == 0;
            const int64_t rows = is_first ? 1 : kWindows * kLength - 1;
            const std::vector<float> values(static_cast<size_t>(rows * kVocabulary), 1.5f);
            file.request().take({is_first ? 0 : 1, rows, 0, kVocabulary, kVocabulary, values});
            file.publish();
        } catch (const Error& error) {
            outcomes[static_cast<size_t>(world.rank())] = error;
        }
    });
    return outcomes;
}

}  // namespace

TEST_CASE("a file of logits has its full size before a rank writes", "[app][logits]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/logits";
    uintmax_t before = 0;
    for (const Error& outcome : write_on_two(path, [&] {
             const auto file = *std::filesystem::directory_iterator(folder.path());
             before = std::filesystem::file_size(file);
         })) {
        INFO(outcome.what());
        CHECK(outcome.code() == ExitCode::ok);
    }
    CHECK(before == std::filesystem::file_size(path));
    const SafetensorsHeader header = read_safetensors_header(path);
    std::vector<float> logits(static_cast<size_t>(kWindows * kLength * kVocabulary));
    read_safetensors_bytes(path, header, *header.find("logits"), 0, logits.size() * sizeof(float),
                           logits.data());
    CHECK(std::count(logits.begin(), logits.end(), 1.5f) ==
          static_cast<std::ptrdiff_t>(logits.size()));
}

TEST_CASE("logits that cannot be written fail all ranks when they have all been taken",
          "[app][logits]") {
    const TemporaryFolder folder;
    std::optional<SmallFiles> limit;
    const auto outcomes = write_on_two(folder.path() + "/logits", [&] { limit.emplace(600); });
    limit.reset();
    for (const Error& outcome : outcomes) {
        CHECK(outcome.code() == ExitCode::io);
        CHECK_THAT(outcome.what(), Contains("too large") && Contains("(rank 1)"));
    }
    CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a file of logits for which there is no room fails before any are made",
          "[app][logits]") {
    const TemporaryFolder folder;
    bool was_made = false;
    std::vector<Error> outcomes;
    {
        const SmallFiles limit(600);
        outcomes = write_on_two(folder.path() + "/logits", [&] { was_made = true; });
    }
    for (const Error& outcome : outcomes) CHECK(outcome.code() == ExitCode::io);
    CHECK(!was_made);
    CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a file that came while logits were made is kept", "[app][logits]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/logits";
    const auto outcomes = write_on_two(path, [&] { replace_file(path, "of somebody"); });
    for (const Error& outcome : outcomes) {
        CHECK(outcome.code() == ExitCode::output_busy);
        CHECK_THAT(outcome.what(), Contains("exists already"));
    }
    CHECK(read_file(path, 100) == "of somebody");
    const std::filesystem::directory_iterator files(folder.path());
    CHECK(std::distance(begin(files), end(files)) == 1);
}

TEST_CASE("logits that fill a disk are refused with the number of windows that do not",
          "[app][logits]") {
    CHECK_NOTHROW(LogitsShape{83, 1024, 50257}.check());
    try {
        LogitsShape{100, 1024, 50257}.check();
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        CHECK(
            std::string(error.what()) ==
            "--logits-windows 100: the logits of as many windows of 1024 tokens for 50257 ids are "
            "19.2 GiB, expected at most 16.0 GiB; ask for 83 windows");
    }
    CHECK_THROWS_AS((LogitsShape{1, 1 << 20, 1 << 17}.check()), Error);
}

}  // namespace trireme::test
