#include "app/stop_request.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

using std::chrono::seconds;

const auto kAtOnce = [] { return 0.0; };

Moment at(int64_t second) {
    return {std::chrono::system_clock::time_point(seconds(second)),
            std::chrono::steady_clock::time_point(seconds(second))};
}

// As a launcher does; another thread than this one may take it.
void send_to_this_process(int number) {
    kill(getpid(), number);
    for (int i = 0; i < 5000 && !StopRequest::is_signalled(); ++i) usleep(1000);
}

}  // namespace

TEST_CASE("durations are seconds or hours, minutes and seconds", "[app][stop]") {
    CHECK(parse_duration("90") == 90.0);
    CHECK(parse_duration("1.5") == 1.5);
    CHECK(parse_duration("00:01:30") == 90.0);
    CHECK(parse_duration("48:00:05") == 48 * 3600.0 + 5);
    CHECK(parse_duration("2-03:00:00") == 51 * 3600.0);
    for (const char* bad : {"", "abc", "1:30", "00:60:00", "00:00:61", "-5", "-1:00:00", "1:2:3:4",
                            "nan", "inf", "1e99", "5s", "9999999999999999:00:00"}) {
        INFO(bad);
        CHECK_FALSE(parse_duration(bad));
    }
}

TEST_CASE("a time limit ends a run while twice a save and a step still fit", "[app][stop]") {
    const TimeLimit none(at(1000), 0, nullptr);
    CHECK_FALSE(none.exists());
    CHECK_FALSE(none.is_due(at(900000), 1e9));

    const TimeLimit limit(at(1000), 3600, nullptr);
    CHECK(seconds_to_end(10, 20, 3600) == 60);
    CHECK(seconds_to_end(10, 0, 3600) == 80);  // a save that was not measured
    CHECK(seconds_to_end(1, 0, 100) == 12);    // of a short run
    CHECK_FALSE(limit.is_due(at(4540), 60));
    CHECK(limit.is_due(at(4541), 60));
    CHECK(limit.describe(at(4541)) == "run.time_limit 3600 s");

    const TimeLimit job(at(1000), 3600, "2000");
    CHECK(job.is_due(at(1990), 60));
    CHECK(job.length_seconds() == 1000);
    CHECK(job.describe(at(1990)) == "the job's end, SLURM_JOB_END_TIME");
    CHECK(TimeLimit(at(1000), 600, "2000").length_seconds() == 600);
    for (const char* text : {"", "x", "-5", "0", "12x", "99999999999999999999"}) {
        INFO(text);
        CHECK_FALSE(TimeLimit(at(1000), 0, text).exists());
    }
}

TEST_CASE("a clock that is set while a run goes on does not change how long it may",
          "[app][stop]") {
    const TimeLimit limit(at(1000), 3600, "9000");
    const Moment set_ahead{at(100000).wall, at(2000).steady},
        set_back{at(10).wall, at(4550).steady};
    CHECK(limit.is_due(set_back, 60));
    CHECK(limit.describe(set_back) == "run.time_limit 3600 s");
    CHECK_FALSE(TimeLimit(at(1000), 3600, nullptr).is_due(set_ahead, 60));
    // The batch system's end is a time of day.
    CHECK(limit.is_due(set_ahead, 60));
    CHECK(limit.describe(set_ahead) == "the job's end, SLURM_JOB_END_TIME");
}

TEST_CASE("each signal is a request, and a file STOP that is gone once honoured", "[app][stop]") {
    for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
        StopRequest stop;
        CHECK(stop.vote(kAtOnce) == 0.0);
        send_to_this_process(number);
        CHECK(stop.vote(kAtOnce) == 1.0);
        CHECK_THAT(stop.reason(kAtOnce), Catch::StartsWith("signal SIG"));
    }
    const TemporaryFolder folder;
    StopRequest stop;
    stop.watch(folder.path(), {});
    write_text(folder.path() + "/STOP", "");
    CHECK(stop.vote(kAtOnce) == 1.0);
    CHECK(stop.reason(kAtOnce) == "file " + folder.path() + "/STOP");
    stop.honour();
    CHECK_FALSE(std::filesystem::exists(folder.path() + "/STOP"));
}

TEST_CASE("stop signals interrupt no thread that computes", "[app][stop]") {
    const auto taken_here = [] {
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        int taken = 0;
        for (const int number : {SIGTERM, SIGINT, SIGUSR1}) taken += !sigismember(&blocked, number);
        return taken;
    };
    CHECK(taken_here() == 3);
    {
        StopRequest stop;
        CHECK(taken_here() == 0);
        int taken_by_another = -1;
        std::thread([&] { taken_by_another = taken_here(); }).join();
        CHECK(taken_by_another == 0);
        send_to_this_process(SIGINT);
        CHECK(stop.vote(kAtOnce) == 1.0);
    }
    CHECK(taken_here() == 3);
}

TEST_CASE("a folder called STOP is no request and stays", "[app][stop]") {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder.path() + "/STOP");
    StopRequest stop;
    stop.watch(folder.path(), {});
    CHECK(stop.vote(kAtOnce) == 0.0);
    stop.honour();
    CHECK(std::filesystem::exists(folder.path() + "/STOP"));
}

TEST_CASE("signals do afterwards what they did before", "[app][stop]") {
    const auto former_handler = signal(SIGUSR1, SIG_IGN);
    {
        StopRequest stop;
        send_to_this_process(SIGUSR1);
        CHECK(stop.vote(kAtOnce) == 1.0);
        stop.honour();
    }
    CHECK(signal(SIGUSR1, former_handler) == SIG_IGN);
}

TEST_CASE("time is looked at once a second", "[app][stop]") {
    const TemporaryFolder folder;
    StopRequest stop;
    stop.watch(folder.path(), TimeLimit(Moment::now(), 3600, nullptr));
    int asked = 0;
    const auto needed = [&] {
        ++asked;
        return 10.0;
    };
    for (int i = 0; i < 1000; ++i) CHECK(stop.vote(needed) == 0.0);
    CHECK(asked == 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
    CHECK(stop.vote([] { return 3605.0; }) == 1.0);
}

TEST_CASE("a second signal leaves at once, the same one sent twice does not", "[app][stop]") {
    const auto code_of = [](bool wait_between) {
        const pid_t child = fork();
        if (child == 0) {
            const StopRequest stop;
            send_to_this_process(SIGTERM);
            if (wait_between) usleep(120000);
            kill(getpid(), SIGTERM);
            usleep(wait_between ? 5000000 : 20000);  // for the thread that takes it
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    };
    CHECK(code_of(true) == 128 + SIGTERM);
    // On a busy machine the child may have to wait between its two signals, though not each time.
    int code = -1;
    for (int attempt = 0; attempt < 5 && code != 0; ++attempt) code = code_of(false);
    CHECK(code == 0);
}

}  // namespace trireme::test
