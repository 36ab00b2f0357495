#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// Runs on a mesh from the command line to the checkpoint and back.

namespace trireme::test {

namespace {

using nlohmann::json;

class Runs {
public:
    Runs() {
        make_data(at(), "text", 200);
        write_text(at() + "/run.yaml", tiny_run(4) + "evaluation: {interval: 2, batches: 2}\n");
    }

    std::string at() const { return folder_.path(); }

    Outcome succeed(const Arguments& arguments, int processes = 1) const {
        const Outcome outcome = trireme_in(at(), arguments, processes);
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
        return outcome;
    }

    void train(const std::string& output, Arguments sets, int processes) const {
        sets.insert(sets.end(), {"run.output=" + output, "data.valid=[{path: data/text}]"});
        Arguments command{"train", "run.yaml", "--set"};
        command.insert(command.end(), sets.begin(), sets.end());
        succeed(command, processes);
    }

    std::vector<json> records(const std::string& output, const std::string& key) const {
        return records_with(at() + "/" + output + "/metrics.jsonl", key);
    }

    void require_same(const std::string& output, const std::string& expected) const {
        for (const std::string key : {"loss", "grad_norm", "valid_loss"}) {
            const std::vector<json> found = records(output, key), want = records(expected, key);
            REQUIRE(found.size() == want.size());
            for (size_t i = 0; i < found.size(); ++i) {
                CHECK(found[i].at(key).get<double>() ==
                      Approx(want[i].at(key).get<double>()).epsilon(1e-5));
            }
        }
    }

private:
    TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("a run on the context axis is that of one process, and goes on without the axis",
          "[app][process][context]") {
    const Runs runs;
    runs.train("alone", {}, 1);
    runs.train("shared", {"mesh.context=2", "mesh.data=2"}, 4);
    runs.require_same("shared", "alone");
    CHECK(runs.records("shared", "loss").back().at("comm_exposed_context_seconds").get<double>() >
          0.0);
    CHECK(runs.records("alone", "loss").back().at("comm_exposed_context_seconds") == 0.0);

    runs.train("turns", {"mesh.context=2", "run.steps=2"}, 2);
    runs.train("turns", {"mesh.tensor=2"}, 2);
    runs.require_same("turns", "alone");
}

TEST_CASE("stages that read no data drop out what one process does", "[app][process]") {
    const Runs runs;
    const Arguments model{"model.layers=4", "model.dropout=0.2"};
    const auto with = [&](Arguments sets) {
        sets.insert(sets.end(), model.begin(), model.end());
        return sets;
    };
    runs.train("alone", with({}), 1);
    runs.train("middle", with({"mesh.pipeline=3"}), 3);
    runs.require_same("middle", "alone");
    // Of a V each stage has two chunks and the last reads nothing.
    runs.train("v", with({"mesh.pipeline=2", "pipeline.schedule=zb-v", "mesh.data=2"}), 4);
    runs.require_same("v", "alone");
    runs.train("resumed", with({"mesh.pipeline=4", "run.steps=2"}), 4);
    runs.train("resumed", with({"mesh.pipeline=3"}), 3);
    runs.require_same("resumed", "alone");
}

TEST_CASE("a checkpoint of the context axis is evaluated and generates on any number of processes",
          "[app][process][context]") {
    const Runs runs;
    runs.train("out", {"mesh.context=2"}, 2);
    const Arguments eval{"eval", "--checkpoint", "out", "--data", "data/text", "--json"};
    const double loss = json::parse(runs.succeed(eval).out).at("loss");
    // As many processes as trained it, as data ranks unless the axis is asked for.
    CHECK(json::parse(runs.succeed(eval, 2).out).at("loss").get<double>() ==
          Approx(loss).epsilon(1e-6));
    const auto on_axis = [](Arguments command) {
        command.insert(command.end(), {"--set", "mesh.context=2", "mesh.data=1"});
        return command;
    };
    CHECK(json::parse(runs.succeed(on_axis(eval), 2).out).at("loss").get<double>() ==
          Approx(loss).epsilon(1e-6));
    const Arguments generate{"generate", "--checkpoint", "out",
                             "--prompt", "line ",        "--temperature",
                             "0",        "--tokens",     "5"};
    CHECK(runs.succeed(generate, 2).out == runs.succeed(generate).out);
    const Outcome refused = trireme_in(runs.at(), on_axis(generate), 2);
    CHECK(refused.code == 78);
    CHECK(refused.error.find("mesh.context: found 2, expected 1: generate") != std::string::npos);
}

}  // namespace trireme::test
