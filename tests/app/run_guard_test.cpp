#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "app/run_lock.h"
#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// The program itself: how a run is stopped, refused and ended from outside. tests/faults has what
// takes longer.

namespace trireme::test {

namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const char* const kConfig = R"(run: {name: tiny, output: out, steps: 6}
device: {threads: 1}
model: {family: gpt2, layers: 2, hidden: 16, heads: 2, vocab_size: 257, max_sequence_length: 8}
data:
  train: [{path: data/text}]
  valid: [{path: data/text}]
batch: {global: 4, micro: 1}
schedule: {name: constant}
logging: {tensorboard: false}
)";

struct Run {
    TemporaryFolder temporary;
    std::string folder = temporary.path();

    Run() {
        std::string corpus;
        for (int i = 0; i < 60; ++i) corpus += "line " + std::to_string(i * i) + " of a text\n";
        write_text(folder + "/corpus.txt", corpus);
        write_text(folder + "/tiny.yaml", kConfig);
        const Outcome made =
            trireme_in(folder, {"prepare", "--input", "corpus.txt", "--output", "data/text"});
        REQUIRE(made.code == 0);
    }
    Outcome train(int processes, const std::vector<std::string>& sets = {}) const {
        Arguments arguments{"train", "tiny.yaml"};
        for (const std::string& set : sets) {
            arguments.push_back("--set");
            arguments.push_back(set);
        }
        return trireme_in(folder, arguments, processes);
    }
    bool has(const std::string& name) const { return fs::exists(folder + "/out/" + name); }
};

}  // namespace

TEST_CASE("a STOP file ends a run with a checkpoint and 75, the next one goes on to the end",
          "[app][process][stop]") {
    const Run run;
    write_text(run.folder + "/out/STOP", "");
    const Outcome stopped = run.train(2);
    INFO(stopped.error);
    CHECK(stopped.code == 75);
    CHECK_THAT(stopped.error,
               Contains("stopped on request: file out/STOP (rank 0)") && Contains("step 0 of 6"));
    CHECK(run.has("checkpoints/step-00000000/manifest.json"));
    CHECK_FALSE(run.has("STOP"));
    CHECK_FALSE(run.has("run.lock"));

    const Outcome rest = run.train(1);
    INFO(rest.error);
    CHECK(rest.code == 0);
    CHECK_THAT(rest.error, Contains("resumed from"));
    CHECK(run.has("checkpoints/step-00000006/manifest.json"));
    CHECK_FALSE(run.has("restarts.txt"));

    const auto saved = fs::last_write_time(run.folder + "/out/checkpoints/step-00000006");
    const Outcome complete = run.train(2);
    CHECK(complete.code == 0);
    CHECK_THAT(complete.error, Contains("nothing to do"));
    CHECK(fs::last_write_time(run.folder + "/out/checkpoints/step-00000006") == saved);
}

TEST_CASE("a time limit ends a run with 75 in a step and in an evaluation",
          "[app][process][stop][long]") {
    const Run run;
    const Outcome in_step = run.train(2, {"run.steps=100000", "run.time_limit=1"});
    INFO(in_step.error);
    CHECK(in_step.code == 75);
    CHECK_THAT(in_step.error, Contains("stopped on request: run.time_limit 1 s"));
    const Outcome in_evaluation =
        run.train(1, {"run.steps=100000", "run.time_limit=00:00:01", "evaluation.interval=1",
                      "evaluation.batches=10000000"});
    INFO(in_evaluation.error);
    CHECK(in_evaluation.code == 75);
    CHECK_THAT(in_evaluation.error, !Contains("valid loss"));
}

TEST_CASE("a folder in which a run is at work is refused with 73", "[app][process][lock][long]") {
    const Run run;
    write_text(run.folder + "/out/run.lock", to_text(this_process()));
    const Outcome refused = run.train(2);
    INFO(refused.error);
    CHECK(refused.code == 73);
    CHECK_THAT(refused.error,
               Contains("another run is at work in this folder: pid " + std::to_string(getpid())));
    CHECK_FALSE(run.has("config.yaml"));
}

TEST_CASE("starts that get nowhere end with 93", "[app][process][restarts][long]") {
    const Run run;
    write_text(run.folder + "/out/restarts.txt", "starts 3\nstep 0\n");
    const Outcome refused = run.train(2);
    INFO(refused.error);
    CHECK(refused.code == 93);
    CHECK_THAT(refused.error, Contains("run.max_restarts=0"));
    CHECK(run.train(1, {"run.max_restarts=0"}).code == 0);
}

TEST_CASE("a validation that is stopped is the first thing that the next start does",
          "[app][process][stop][long]") {
    const std::string steps = GENERATE("2", "4");  // it is that of step 2
    const Run run;
    const std::string script =
        std::string(TRIREME_BINARY_DIR) + "/bin/trireme train tiny.yaml --set run.steps=" + steps +
        " --set logging.interval=1 --set evaluation.interval=2 --set evaluation.batches=400000 & "
        "run=$!; until grep -qs '\"step\":2' out/metrics.jsonl; do sleep 0.05; done; "
        "touch out/STOP; wait $run";
    const Outcome stopped = run_program({"sh", "-c", script}, run.folder);
    INFO(stopped.error);
    CHECK(stopped.code == 75);
    CHECK_THAT(stopped.error, Contains("the validation of step 2 is not done") &&
                                  Contains("The checkpoint of step 2 of " + steps));
    CHECK_FALSE(run.has("STOP"));
    const std::string metrics = run.folder + "/out/metrics.jsonl";
    CHECK(records_with(metrics, "valid_loss").empty());

    const std::vector<std::string> rest{"run.steps=" + steps, "logging.interval=1",
                                        "evaluation.interval=2", "evaluation.batches=1"};
    const Outcome resumed = run.train(2, rest);
    INFO(resumed.error);
    CHECK(resumed.code == 0);
    const std::string text = read_text(metrics);
    const auto records = records_with(metrics, "step");
    std::vector<std::pair<int64_t, bool>> found, expected{{1, false}, {2, false}, {2, true}};
    if (steps == "4") expected.insert(expected.end(), {{3, false}, {4, false}, {4, true}});
    for (const auto& record : records) {
        found.emplace_back(record.at("step").get<int64_t>(), record.contains("valid_loss"));
    }
    CHECK(found == expected);
    const Outcome complete = run.train(1, rest);
    CHECK(complete.code == 0);
    CHECK_THAT(complete.error, Contains("nothing to do"));
    CHECK(read_text(metrics) == text);
}

TEST_CASE("a stopped rank ends the run with 86 and is named", "[app][process][watchdog][long]") {
    const Run run;
    // Waits for the first steps, then stops the last process that mpirun has started.
    const std::string script = std::string("mpirun --allow-run-as-root --oversubscribe -n 2 ") +
                               TRIREME_BINARY_DIR +
                               "/bin/trireme train tiny.yaml --set run.steps=100000 "
                               "--set run.hang_limit=3 & launcher=$!; "
                               "until [ -s out/metrics.jsonl ]; do sleep 0.05; done; "
                               "kill -STOP $(pgrep -P $launcher | tail -n 1); wait $launcher";
    const Outcome hung =
        run_program({"env", "ASAN_OPTIONS=detect_leaks=0", "sh", "-c", script}, run.folder);
    INFO(hung.error);
    CHECK(hung.code == 86);
    CHECK_THAT(hung.error, Contains("the run stands still: rank 1 on ") &&
                               Contains("does not answer") && Contains("Its last action: "));
    CHECK(run.has("run.lock"));  // for the next start to take over
    const Outcome rest = run.train(1);
    INFO(rest.error);
    CHECK(rest.code == 0);
    CHECK_THAT(rest.error, Contains("taken over from pid "));
}

}  // namespace trireme::test
