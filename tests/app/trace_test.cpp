#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

Outcome check_trace(const std::string& folder, const Arguments& files) {
    Arguments command = {"python3", TRIREME_SOURCE_DIR "/scripts/check-trace"};
    command.insert(command.end(), files.begin(), files.end());
    return run_program(command, folder);
}

struct Times {
    double begin = -1, end = -1;  // microseconds from the common origin
};

Times first_span(const nlohmann::json& trace, const std::string& name) {
    for (const auto& event : trace.at("traceEvents")) {
        if (event.at("name") != name) continue;
        const double begin = event.at("ts");
        return {begin, begin + event.at("dur").get<double>()};
    }
    return {};
}

}  // namespace

TEST_CASE("the traces of two ranks are sound and begin together", "[app][trace]") {
    const TemporaryFolder folder;
    make_data(folder.path(), "text", 60);
    write_text(folder.path() + "/run.yaml",
               tiny_run(3) + "mesh: {pipeline: 2}\npipeline: {schedule: 1f1b}\n");
    const Outcome trained = trireme_in(
        folder.path(),
        {"train", "run.yaml", "--set", "model.layers=2", "--set", "logging.trace=true"}, 2);
    INFO(trained.error);
    REQUIRE(trained.code == 0);
    const std::string zero = folder.path() + "/out/trace/rank-0.json",
                      one = folder.path() + "/out/trace/rank-1.json";
    const Outcome checked = check_trace(folder.path(), {zero, one});
    INFO(checked.out << checked.error);
    CHECK(checked.code == 0);
    // The second rank's forward needs the first's, whose backward needs the second's.
    const auto first = nlohmann::json::parse(read_text(zero));
    const auto second = nlohmann::json::parse(read_text(one));
    CHECK(first_span(first, "forward").begin > 0);
    CHECK(first_span(first, "forward").begin < first_span(second, "forward").end);
    CHECK(first_span(second, "backward").begin < first_span(first, "backward").end);
}

TEST_CASE("a run that traces leaves no trace of an earlier one with more processes",
          "[app][trace]") {
    const TemporaryFolder folder;
    const std::string at = folder.path(), traces = at + "/out/trace/";
    make_data(at, "text", 60);
    write_text(at + "/run.yaml", tiny_run(2));
    const Arguments train = {"train", "run.yaml", "--set", "logging.trace=true"};
    REQUIRE(trireme_in(at, train, 2).code == 0);
    REQUIRE(std::filesystem::exists(traces + "rank-1.json"));
    const std::string former = read_text(traces + "rank-0.json");
    write_text(traces + "notes.json", "{}");
    Arguments resumed = train;
    resumed.push_back("run.steps=4");
    const Outcome outcome = trireme_in(at, resumed);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    CHECK(!std::filesystem::exists(traces + "rank-1.json"));
    CHECK(read_text(traces + "rank-0.json") != former);
    CHECK(std::filesystem::exists(traces + "notes.json"));
    // One that does not trace leaves the last trace.
    REQUIRE(trireme_in(at, {"train", "run.yaml", "--set", "run.steps=6"}).code == 0);
    CHECK(std::filesystem::exists(traces + "rank-0.json"));
}

TEST_CASE("the trace of a planned schedule is sound", "[app][trace]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run.yaml", tiny_run(3));
    const Outcome planned = trireme_in(
        folder.path(), {"plan", "--schedule-only", "run.yaml", "--set", "mesh.pipeline=4", "--set",
                        "model.layers=4", "--set", "batch.global=8", "--trace", "plan.json"});
    INFO(planned.error);
    REQUIRE(planned.code == 0);
    const Outcome checked = check_trace(folder.path(), {"plan.json"});
    INFO(checked.out << checked.error);
    CHECK(checked.code == 0);
}

TEST_CASE("the check of traces sees what is wrong", "[app][trace]") {
    const std::string good = R"([{"ph":"M","name":"process_name","pid":0,"args":{"name":"rank 0"}},
{"ph":"M","name":"thread_name","pid":0,"tid":0,"args":{"name":"compute"}},
{"ph":"X","name":"a","pid":0,"tid":0,"ts":1.5,"dur":4})";
    struct Case {
        std::string event, message;
    };
    const std::vector<Case> cases = {
        {"]", "3 events on 1 tracks"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":0,"ts":3,"dur":2.5}])", "4 events on 1 tracks"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":0,"ts":3,"dur":2.6}])", "ends after a"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":0,"ts":-1,"dur":1}])", "ts is"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":0,"ts":7}])", "no dur"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":1,"ts":7,"dur":1}])",
         "no name for process 0, track 1"},
        {R"(,{"ph":"B","name":"b","pid":0,"tid":0,"ts":7}])", "has no end"},
        {R"(,{"ph":"Q","name":"b","pid":0,"tid":0,"ts":7}])", "unknown phase"},
        {R"(,{"ph":"X","name":"b","pid":0,"tid":0,"ts":NaN,"dur":1}])", "NaN is no JSON"},
        {R"(,{"ph":"X",])", "Expecting"},
    };
    const TemporaryFolder folder;
    Arguments files;
    for (const Case& one : cases) {
        files.push_back(std::to_string(files.size()) + ".json");
        write_text(folder.path() + "/" + files.back(), good + one.event);
    }
    const Outcome outcome = check_trace(folder.path(), files);
    CHECK(outcome.code == 1);
    std::istringstream lines(outcome.out);
    for (size_t i = 0; i < cases.size(); ++i) {
        std::string line;
        std::getline(lines, line);
        CHECK_THAT(line, Catch::StartsWith(files[i] + ": ") && Catch::Contains(cases[i].message));
    }
}

}  // namespace trireme::test
