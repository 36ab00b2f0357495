#include <catch2/catch.hpp>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/checkpoint_config.h"
#include "app/rank_setup.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

using nlohmann::json;

Outcome succeed(const std::string& folder, const Arguments& arguments, int processes = 1) {
    const Outcome outcome = trireme_in(folder, arguments, processes);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    return outcome;
}

std::vector<json> records(const std::string& path) {
    std::istringstream lines(read_text(path));
    std::vector<json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
}

const char* const kQuestions =
    R"({"ctx":"line 1","endings":["2 of the text","x"],"label":0}
{"question":"what","choices":{"text":["line","no","é"],"label":["A","B","C"]},"answerKey":"B"}
)";

}  // namespace

TEST_CASE("a checkpoint is evaluated on the mesh that is asked for, with data ranks for the rest",
          "[app][config]") {
    const auto mesh_of = [](const std::string& saved, const std::vector<std::string>& sets,
                            int world) {
        const Config config = parse_config(tiny_run(2), "run.yaml", {saved}, 2);
        CheckpointState state;
        state.config = dump_config(config);
        state.mesh = config.mesh;
        return config_of_checkpoint(state, "step-00000002", sets, world).mesh.to_string();
    };
    const std::string two = "mesh.data=2", tensor = "mesh.tensor=2";
    CHECK(mesh_of(two, {"mesh.tensor=2"}, 4) == "tensor 2 x data 2 x pipeline 1");
    CHECK(mesh_of(two, {"mesh.pipeline=1"}, 3) == "tensor 1 x data 3 x pipeline 1");
    CHECK(mesh_of(tensor, {"mesh.pipeline=1"}, 4) == "tensor 2 x data 2 x pipeline 1");
    CHECK(mesh_of(two, {"mesh.tensor=2", "mesh.data=1"}, 2) == "tensor 2 x data 1 x pipeline 1");
    CHECK_THROWS_AS(mesh_of(two, {"mesh.data=3"}, 2), Error);
    CHECK(mesh_of(tensor, {}, 2) == "tensor 2 x data 1 x pipeline 1");
    CHECK(mesh_of(tensor, {}, 3) == "tensor 1 x data 3 x pipeline 1");
}

TEST_CASE("a checkpoint is evaluated in micro-batches of the size that is asked for",
          "[app][config]") {
    const Config config = parse_config(tiny_run(2), "run.yaml", {}, 1);
    CheckpointState state;
    state.config = dump_config(config);
    state.mesh = config.mesh;
    const auto micro_of = [&](const std::vector<std::string>& sets) {
        return config_of_checkpoint(state, "step-00000002", sets, 2, 8).batch.micro;
    };
    CHECK(micro_of({}) == 8);
    CHECK(micro_of({"batch.micro=3"}) == 3);
    CHECK(micro_of({"batch.micro=3", "batch.micro=2"}) == 2);
    CHECK_THROWS_AS(micro_of({"batch.micro=few"}), Error);
    // A context axis must divide what is evaluated at once, not what was trained on.
    CHECK(config_of_checkpoint(state, "s", {"mesh.context=2", "data.sequence_length=15"}, 2, 8)
              .mesh.context == 2);
    CHECK_THROWS_AS(
        config_of_checkpoint(state, "s", {"mesh.context=2", "data.sequence_length=15"}, 2, 1),
        Error);
}

TEST_CASE("eval takes several datasets behind one --data and behind one each", "[app][process]") {
    const TemporaryFolder folder;
    for (const Arguments& data : {Arguments{"--data", "a", "b"}, {"--data", "a", "--data", "b"}}) {
        Arguments arguments = {"eval", "--checkpoint", "none"};
        arguments.insert(arguments.end(), data.begin(), data.end());
        CHECK(trireme_in(folder.path(), arguments).code == 65);  // there is no checkpoint
        arguments.insert(arguments.end(), {"--choices", "c", "d", "--logits", "new"});
        const Outcome outcome = trireme_in(folder.path(), arguments);
        CHECK(outcome.code == 78);
        CHECK(outcome.error.find("found 2") != std::string::npos);
    }
}

TEST_CASE("a blend in phases is resumed on another mesh, and each set of it is evaluated",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    make_data(at, "text", 300);
    make_data(at, "other", 77);
    std::string run = tiny_run(6);
    const std::string train = "train: [{path: data/text}]";
    run.replace(run.find(train), train.size(),
                "train: [{path: data/text}, {path: data/other}]\n"
                "  phases: [{after_step: 1, weights: [1, 3]}, {after_step: 4, weights: [0, 1]}]\n"
                "  valid: [{path: data/text, weight: 3}, {path: data/other, name: second}]");
    write_text(at + "/run.yaml", run + "evaluation: {interval: 3, batches: 1}\n");
    succeed(at, {"train", "run.yaml"});
    const auto whole = records(at + "/out/metrics.jsonl");
    // From inside the second phase.
    std::filesystem::remove_all(at + "/out/checkpoints/step-00000006");
    std::filesystem::remove_all(at + "/out/checkpoints/step-00000004");
    succeed(at, {"train", "run.yaml", "--set", "mesh.data=2"}, 2);
    const auto again = records(at + "/out/metrics.jsonl");
    REQUIRE(whole.size() == 8);
    REQUIRE(again.size() == 8);
    for (size_t i = 0; i < whole.size(); ++i) {
        const char* key = whole[i].contains("loss") ? "loss" : "valid_loss";
        CHECK(again[i].at(key).get<double>() ==
              Approx(whole[i].at(key).get<double>()).epsilon(1e-5));
    }
    const json& sets = whole[3].at("valid_losses");
    REQUIRE(sets.size() == 2);
    CHECK(whole[3].at("valid_loss").get<double>() ==
          Approx(0.75 * sets.at("text").get<double>() + 0.25 * sets.at("second").get<double>()));

    const auto both = json::parse(succeed(at, {"eval", "--checkpoint", "out", "--data", "data/text",
                                               "--data", "data/other", "--json"})
                                      .out);
    REQUIRE(both.at("sets").size() == 2);
    const auto listed = json::parse(
        succeed(at, {"eval", "--checkpoint", "out", "--data", "data/text", "data/other", "--json"})
            .out);
    CHECK(listed == both);
    double loss_sum = 0;
    for (const json& set : both["sets"]) {
        loss_sum += set.at("loss").get<double>() * set.at("tokens").get<double>();
    }
    CHECK(both.at("loss").get<double>() == Approx(loss_sum / both.at("tokens").get<double>()));

    write_text(at + "/q.jsonl", kQuestions);
    const Arguments choices = {"eval", "--checkpoint", "out", "--choices", "q.jsonl", "--json"};
    const json answers = json::parse(succeed(at, choices).out);
    CHECK(answers.at("choices").at(0).at("questions") == 2);
    for (const char* key :
         {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "acc_bytes", "acc_bytes_stderr"}) {
        CHECK(answers["choices"][0].contains(key));
    }
    const std::string on_mesh = succeed(at, choices, 4).out;
    CHECK(json::parse(on_mesh) == answers);
    const std::string text =
        succeed(at, {"eval", "--checkpoint", "out", "--choices", "q.jsonl"}).out;
    CHECK(text.starts_with("acc "));

    write_text(at + "/bad.jsonl", std::string(kQuestions) + "{\n");
    const Outcome bad = trireme_in(at, {"eval", "--checkpoint", "out", "--choices", "bad.jsonl"});
    CHECK(bad.code == 65);
    CHECK(bad.error.find("bad.jsonl:3") != std::string::npos);
    CHECK(trireme_in(at, {"eval", "--checkpoint", "out"}).code == 78);
}

}  // namespace trireme::test
