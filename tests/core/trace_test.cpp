#include "core/trace.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/core/temporary_folder.h"

using namespace trireme;

namespace {

class TraceFile {
public:
    std::string path() const { return folder_.path() + "/trace.json"; }
    nlohmann::json read() const { return nlohmann::json::parse(std::ifstream(path())); }

private:
    TemporaryFolder folder_;
};

std::vector<nlohmann::json> events_of(const nlohmann::json& file, const std::string& phase) {
    std::vector<nlohmann::json> found;
    for (const auto& event : file.at("traceEvents"))
        if (event.at("ph") == phase) found.push_back(event);
    return found;
}

}  // namespace

TEST_CASE("a trace file holds each span with its rank, time and number", "[core][trace]") {
    Trace trace(3, 16);
    const int64_t origin = Trace::now_ns();
    trace.record("forward", "compute", origin, origin + 1234, 7);
    trace.record("\"wait\"", "communication", origin + 500, origin + 2000500);

    const TraceFile file;
    trace.write_json(file.path());
    const nlohmann::json read = file.read();
    const auto spans = events_of(read, "X");
    REQUIRE(spans.size() == 2);
    CHECK(spans[0].at("name") == "forward");
    CHECK(spans[0].at("cat") == "compute");
    CHECK(spans[0].at("pid") == 3);
    CHECK(spans[0].at("tid") == 0);
    CHECK(spans[0].at("dur").get<double>() == Approx(1.234));
    CHECK(spans[0].at("args").at("number") == 7);
    CHECK(spans[0].at("ts").get<double>() >= 0.0);
    CHECK(spans[1].at("name") == "\"wait\"");
    CHECK(spans[1].at("tid") == 0);
    CHECK_FALSE(spans[1].contains("args"));
    CHECK(spans[1].at("ts").get<double>() - spans[0].at("ts").get<double>() == Approx(0.5));
    CHECK(spans[1].at("dur").get<double>() == Approx(2000.0));

    std::vector<std::string> names;
    for (const auto& event : events_of(read, "M"))
        if (event.at("name") == "thread_name") names.push_back(event.at("args").at("name"));
    CHECK(names == std::vector<std::string>{"compute"});
}

TEST_CASE("a full trace keeps the newest spans, oldest first", "[core][trace]") {
    Trace trace(0, 5);
    for (int i = 0; i < 13; ++i) trace.record("step", "train", i * 10, i * 10 + 5, i);
    CHECK(trace.recorded() == 13);

    const TraceFile file;
    trace.write_json(file.path());
    std::vector<int> numbers;
    for (const auto& span : events_of(file.read(), "X"))
        numbers.push_back(span.at("args").at("number"));
    CHECK(numbers == std::vector<int>{8, 9, 10, 11, 12});
}

TEST_CASE("a span records its own lifetime and nests inside another", "[core][trace]") {
    Trace trace(0, 8);
    {
        const TraceSpan outer(&trace, "outer", "test");
        const TraceSpan inner(&trace, "inner", "test");
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    const TraceFile file;
    trace.write_json(file.path());
    const auto spans = events_of(file.read(), "X");
    REQUIRE(spans.size() == 2);
    const double inner_begin = spans[0].at("ts"), inner_length = spans[0].at("dur");
    const double outer_begin = spans[1].at("ts"), outer_length = spans[1].at("dur");
    CHECK(spans[0].at("name") == "inner");
    CHECK(inner_length >= 2000.0);
    CHECK(outer_begin <= inner_begin);
    CHECK(outer_begin + outer_length >= inner_begin + inner_length);
}

TEST_CASE("a span without a trace does nothing", "[core][trace]") {
    const TraceSpan span(nullptr, "nothing", "test");
    SUCCEED();
}

TEST_CASE("traces with one origin line up, whenever each was made", "[core][trace]") {
    const int64_t origin = Trace::unix_ns() - 3'000'000'000;
    Trace early(0, 4, origin);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    Trace late(1, 4, origin);
    const int64_t now = Trace::now_ns();
    early.record("here", "test", now, now);
    late.record("here", "test", now, now);

    const TraceFile first, second;
    early.write_json(first.path());
    late.write_json(second.path());
    const double at_first = events_of(first.read(), "X")[0].at("ts");
    const double at_second = events_of(second.read(), "X")[0].at("ts");
    CHECK(at_first >= 3.02e6);
    CHECK(at_first == Approx(at_second).margin(10e3));
}

TEST_CASE("several threads may record while the file is written", "[core][trace]") {
    Trace trace(0, 64);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&trace] {
            for (int i = 0; i < 1000; ++i) const TraceSpan span(&trace, "work", "test", i);
        });
    }
    const TraceFile file;
    for (int i = 0; i < 5; ++i) trace.write_json(file.path());
    for (std::thread& thread : threads) thread.join();
    CHECK(trace.recorded() == 3000);
    trace.write_json(file.path());
    CHECK(events_of(file.read(), "X").size() == 64);
}

TEST_CASE("a trace that cannot be written says where", "[core][trace]") {
    const Trace trace(0, 4);
    const std::string path = "/nonexistent-folder/trace.json";
    try {
        trace.write_json(path);
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::io);
        CHECK(std::string(error.what()).find(path) != std::string::npos);
    }
}
