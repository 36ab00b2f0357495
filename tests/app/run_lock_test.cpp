#include "app/run_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <optional>
#include <thread>

#include "app/restart_counter.h"
#include "core/error.h"
#include "core/file_io.h"
#include "tests/app/process_support.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

using Catch::Contains;
using std::chrono::milliseconds;

struct Folder {
    TemporaryFolder temporary;
    std::string path = temporary.path();
    std::string lock = path + "/run.lock";
    std::vector<std::string> warnings;

    RunLock::Options options() {
        return {.patience = milliseconds(300),
                .ending = milliseconds(200),
                .between_looks = milliseconds(20),
                .warn = [this](const std::string& text) { warnings.push_back(text); }};
    }
    std::string refusal(milliseconds patience = milliseconds(300)) {
        try {
            RunLock::Options patient = options();
            patient.patience = patience;
            const RunLock lock_it(path, patient);
        } catch (const Error& error) {
            CHECK(error.code() == ExitCode::output_busy);
            return error.what();
        }
        return "";
    }
};

int pid_of_nobody() {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    return child;
}

RunLockOwner owner_elsewhere() {
    RunLockOwner owner = this_process();
    owner.host = "another-host";
    owner.id = "0123";
    return owner;
}

}  // namespace

TEST_CASE("a folder is locked by one run at a time, and free after it", "[app][lock]") {
    Folder folder;
    {
        RunLock lock(folder.path, folder.options());
        CHECK(lock.beat());
        CHECK_THAT(folder.refusal(), Contains("another run is at work") &&
                                         Contains("pid " + std::to_string(getpid()) + " on "));
        CHECK(lock.beat());
    }
    CHECK_FALSE(std::filesystem::exists(folder.lock));
    CHECK(folder.refusal().empty());
    CHECK(folder.warnings.empty());
}

TEST_CASE("the lock of a process that has ended is taken over with a warning", "[app][lock]") {
    Folder folder;
    RunLockOwner owner = this_process();
    owner.pid = pid_of_nobody();
    write_text(folder.lock, to_text(owner));
    CHECK(folder.refusal().empty());
    REQUIRE(folder.warnings.size() == 1);
    CHECK_THAT(folder.warnings[0], Contains("taken over from pid " + std::to_string(owner.pid)));

    // Its number belongs to another process now.
    owner.pid = static_cast<int>(getpid());
    owner.started += 1;
    write_text(folder.lock, to_text(owner));
    CHECK(folder.refusal().empty());
    CHECK(folder.warnings.size() == 2);
}

TEST_CASE("of an owner on another host a sign of life is waited for", "[app][lock]") {
    Folder folder;
    RunLockOwner owner = owner_elsewhere();
    write_text(folder.lock, to_text(owner));
    CHECK(folder.refusal().empty());  // none came
    REQUIRE(folder.warnings.size() == 2);
    CHECK_THAT(folder.warnings[0], Contains("on another-host may be at work"));

    write_text(folder.lock, to_text(owner));
    std::atomic<bool> ends{false};
    std::thread alive([&] {
        while (!ends) {
            std::this_thread::sleep_for(milliseconds(60));
            ++owner.beats;
            replace_file(folder.lock, to_text(owner));
        }
    });
    // Refused at the first sign: so much patience is needed on a busy machine only.
    CHECK_THAT(folder.refusal(std::chrono::seconds(20)), Contains("on another-host"));
    ends = true;
    alive.join();
}

TEST_CASE("a job that its batch system has started again takes its own lock over at once",
          "[app][lock]") {
    RunLockOwner owner = owner_elsewhere(), us = this_process();
    owner.job = us.job = "4711";
    us.job_starts = 1;
    CHECK(judge_lock(owner, us) == LockState::stale);
    us.job_starts = 0;
    CHECK(judge_lock(owner, us) == LockState::unknown);
    us.job_starts = 1;
    us.job = "4712";
    CHECK(judge_lock(owner, us) == LockState::unknown);
}

TEST_CASE("of several that find a stale lock one gets it", "[app][lock]") {
    for (int round = 0; round < 5; ++round) {
        Folder folder;
        RunLockOwner owner = this_process();
        owner.pid = pid_of_nobody();
        write_text(folder.lock, to_text(owner));
        std::atomic<int> holders{0}, refused{0};
        std::vector<std::thread> runs;
        std::array<std::optional<RunLock>, 6> locks;
        for (auto& lock : locks) {
            runs.emplace_back([&] {
                RunLock::Options options;
                options.patience = milliseconds(300);
                options.ending = milliseconds(200);
                options.between_looks = milliseconds(20);
                try {
                    lock.emplace(folder.path, options);
                    ++holders;
                } catch (const Error&) {
                    ++refused;
                }
            });
        }
        for (std::thread& run : runs) run.join();
        CHECK(holders == 1);
        CHECK(refused == 5);
    }
}

TEST_CASE("a lock that was taken away is noticed, and not removed at the end", "[app][lock]") {
    Folder folder;
    {
        RunLock lock(folder.path, folder.options());
        write_text(folder.lock, to_text(owner_elsewhere()));
        CHECK_FALSE(lock.beat());
    }
    CHECK(std::filesystem::exists(folder.lock));
    std::filesystem::remove(folder.lock);
    RunLock lock(folder.path, folder.options());
    std::filesystem::remove(folder.lock);
    CHECK_FALSE(lock.beat());
}

TEST_CASE("a lock leaves no other file beside it", "[app][lock]") {
    Folder folder;
    const auto files = [&] {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(folder.path)) {
            names.push_back(entry.path().filename());
        }
        return names;
    };
    {
        const RunLock lock(folder.path, folder.options());
        CHECK(files() == std::vector<std::string>{"run.lock"});
        CHECK_FALSE(folder.refusal().empty());
        CHECK(files() == std::vector<std::string>{"run.lock"});
    }
    CHECK(files().empty());
    // What a start that was killed meanwhile left goes with the next one, another's stays.
    RunLockOwner gone = this_process();
    gone.started += 1;
    write_text(folder.lock + ".gone", to_text(gone));
    write_text(folder.lock + ".elsewhere", to_text(owner_elsewhere()));
    const RunLock lock(folder.path, folder.options());
    CHECK_FALSE(std::filesystem::exists(folder.lock + ".gone"));
    CHECK(std::filesystem::exists(folder.lock + ".elsewhere"));
}

TEST_CASE("a lock file without an owner is refused, not deleted", "[app][lock]") {
    Folder folder;
    write_text(folder.lock, "rubbish\n");
    CHECK_THAT(folder.refusal(), Contains("names no owner") && Contains("delete it"));
    CHECK(std::filesystem::exists(folder.lock));
}

TEST_CASE("three starts without a new checkpoint are followed by code 93", "[app][restarts]") {
    const TemporaryFolder folder;
    const RestartCounter counter(folder.path());
    for (int start = 0; start < 3; ++start) counter.count_start(40, 3);
    const Error error = error_of([&] { counter.count_start(40, 3); });
    CHECK(error.code() == ExitCode::no_progress);
    CHECK_THAT(error.what(), Contains("3 starts all began at step 40") &&
                                 Contains("restarts.txt") && Contains("run.max_restarts=0"));
    CHECK_NOTHROW(counter.count_start(40, 0));
    CHECK_NOTHROW(counter.count_start(50, 3));  // a new checkpoint
    CHECK_NOTHROW(counter.count_start(50, 3));
    CHECK_NOTHROW(counter.count_start(50, 3));
    CHECK(error_of([&] { counter.count_start(50, 3); }).code() == ExitCode::no_progress);
    counter.forget();
    CHECK_NOTHROW(counter.count_start(50, 3));
    write_text(folder.path() + "/restarts.txt", "rubbish");
    CHECK_NOTHROW(counter.count_start(50, 3));
}

}  // namespace trireme::test
