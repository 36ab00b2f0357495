#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/resume.h"
#include "app/schema.h"
#include "parallel/checkpoint_load.h"
#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// What a run that goes on from a checkpoint may change, and what becomes of damaged ones.

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

namespace {

Outcome train(const std::string& at, const Arguments& sets, int processes = 1) {
    Arguments arguments{"train", "run.yaml", "--set"};
    arguments.insert(arguments.end(), sets.begin(), sets.end());
    return trireme_in(at, arguments, processes);
}

std::string step_folder(const std::string& at, int step) {
    return at + "/out/checkpoints/step-0000000" + std::to_string(step);
}

std::string shard_of(const std::string& checkpoint) {
    for (const auto& entry : fs::directory_iterator(checkpoint)) {
        if (entry.path().extension() == ".safetensors") return entry.path().string();
    }
    FAIL("no shard in " << checkpoint);
    return "";
}

// All that the tensors hold.
void flip_contents(const std::string& path) {
    std::string bytes = read_text(path);
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
    for (size_t i = sizeof header_bytes + header_bytes; i < bytes.size(); ++i) {
        bytes[i] = static_cast<char>(bytes[i] ^ 1);
    }
    write_text(path, bytes);
}

void flip_last_byte(const std::string& path) {
    std::string bytes = read_text(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    write_text(path, bytes);
}

}  // namespace

TEST_CASE("every key of the configuration has a class for resumes", "[app][config]") {
    for (const SchemaRow& row : config_schema()) {
        INFO(row.key << " belongs in a table of app/resume_class.cpp");
        CHECK(has_resume_class(row.key));
    }
}

TEST_CASE("changes of the configuration are told by class", "[app][config]") {
    const Config before = parse_config(tiny_run(8), "run.yaml");
    const std::string text = dump_config(before);
    CHECK(changes_since(text, before).structural.empty());
    CHECK(changes_since(text, before).trajectory.empty());
    const Config now = parse_config(
        tiny_run(8), "run.yaml",
        {"model.ffn_hidden=80", "model.rope_theta=5000", "optimizer.lr=1e-3", "batch.global=8",
         "run.seed=5", "mesh.tensor=2", "checkpoint.keep=9", "data_parallel.zero=3"});
    const ConfigChanges changes = changes_since(text, now);
    REQUIRE(changes.structural.size() == 2);
    CHECK(changes.structural[0].to_string() == "model.ffn_hidden: found 80, expected 48");
    CHECK(changes.structural[1].key == "model.rope_theta");
    std::vector<std::string> keys;
    for (const ConfigChange& change : changes.trajectory) keys.push_back(change.key);
    CHECK(keys == std::vector<std::string>{"run.seed", "batch.global", "optimizer.lr"});
}

TEST_CASE("a resume refuses another model, records another course and ignores the rest",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(8));
    make_data(at, "text", 300);
    REQUIRE(train(at, {"run.steps=2"}).code == 0);

    const Outcome refused =
        train(at, {"run.steps=4", "model.hidden=32", "model.norm_eps=1e-4", "optimizer.lr=1"});
    CHECK(refused.code == 65);
    CHECK_THAT(refused.error, Contains("another model") &&
                                  Contains("model.hidden: found 32, expected 16") &&
                                  Contains("model.norm_eps") && !Contains("optimizer.lr"));
    CHECK(!fs::exists(at + "/out/resumes.jsonl"));

    const Outcome quiet = train(at, {"run.steps=2", "mesh.tensor=2", "data_parallel.zero=0"}, 2);
    INFO(quiet.error);
    CHECK(quiet.code == 0);
    CHECK_THAT(quiet.error, Contains("resumed from") && !Contains("differs"));

    const Outcome warned = train(at, {"run.steps=4", "optimizer.lr=0.01"});
    INFO(warned.error);
    REQUIRE(warned.code == 0);
    CHECK_THAT(warned.error, Contains("differs") && Contains("optimizer.lr: found 0.01"));
    // On record: in the run folder, and in what is saved from then on, also after another resume.
    REQUIRE(train(at, {"run.steps=6", "optimizer.lr=0.01"}).code == 0);
    const std::string records = read_text(at + "/out/resumes.jsonl");
    // Where nothing was left to do nothing was written.
    CHECK(std::count(records.begin(), records.end(), '\n') == 2);
    CHECK_THAT(records, Contains("optimizer.lr"));
    const CheckpointReader reader(step_folder(at, 6));
    const auto history = nlohmann::json::parse(reader.state().extra.at("resumes"));
    REQUIRE(history.size() == 2);  // nothing was saved after the first
    CHECK(history[0].at("step") == 2);
    CHECK(history[0].at("changed").contains("optimizer.lr"));
    CHECK(history[1].at("step") == 4);
    CHECK(!history[1].at("changed").contains("optimizer.lr"));
    CHECK(reader.state().run_id.size() == 16);
}

TEST_CASE("a resume with another batch size goes on with the samples that come next",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(8));
    make_data(at, "a", 300);
    make_data(at, "b", 301);
    // The parameters stay as they are, so that a loss tells which samples were read.
    const Arguments common{"data.train=[{path: data/a}, {path: data/b}]", "optimizer.lr=1e-30"};
    const auto losses = [&](const std::string& output, const Arguments& own) {
        Arguments sets = common;
        sets.insert(sets.end(), own.begin(), own.end());
        sets.push_back("run.output=" + output);
        const Outcome outcome = train(at, sets);
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
        std::vector<double> found;
        for (const auto& record : records_with(at + "/" + output + "/metrics.jsonl", "loss")) {
            found.push_back(record.at("loss").get<double>());
        }
        return found;
    };
    const auto whole = losses("whole", {"run.steps=12", "batch.global=4"});
    losses("out", {"run.steps=4", "batch.global=8"});
    const auto smaller = losses("out", {"run.steps=8", "batch.global=4"});
    REQUIRE(smaller.size() == 8);
    CHECK(std::vector(smaller.begin() + 4, smaller.end()) ==
          std::vector(whole.begin() + 8, whole.end()));
    CHECK(smaller[4] != whole[0]);
}

TEST_CASE("batches that change on resuming leave the phases where they began",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(12));
    make_data(at, "a", 300);
    make_data(at, "b", 301);
    const std::string phases =
        "data.phases=[{after_step: 2, weights: [1, 7]}, {after_step: 6, weights: [3, 1]}]";
    // Ends in a step by itself or, without one, after the last.
    const auto go_on = [&](const std::string& output, int batch, int fails_in) {
        Arguments sets{"data.train=[{path: data/a}, {path: data/b}]", phases,
                       "batch.global=" + std::to_string(batch), "run.output=" + output};
        if (fails_in > 0) {
            sets.push_back("testing.faults=[{rank: 0, step: " + std::to_string(fails_in) +
                           ", action: nan-gradient, tensor: layers.0.mlp.down.weight}]");
        }
        const Outcome outcome = train(at, sets);
        INFO(outcome.error);
        REQUIRE(outcome.code == (fails_in > 0 ? 76 : 0));
    };
    // From the checkpoints of step 4 and 8 on with other batches.
    go_on("out", 4, 5);
    fs::copy(at + "/out", at + "/interrupted", fs::copy_options::recursive);
    go_on("out", 8, 9);
    go_on("out", 4, 0);
    for (const int step : {7, 9}) go_on("interrupted", 8, step);
    for (const int step : {11, 0}) go_on("interrupted", 4, step);
    const auto whole = records_with(at + "/out/metrics.jsonl", "loss");
    const auto found = records_with(at + "/interrupted/metrics.jsonl", "loss");
    REQUIRE(whole.size() == 12);
    REQUIRE(found.size() == 12);
    for (size_t i = 0; i < whole.size(); ++i) {
        INFO("step " << i + 1);
        CHECK(found[i].at("loss").get<double>() == whole[i].at("loss").get<double>());
    }
}

TEST_CASE("a resume on other training data is refused unless it is allowed",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(8));
    make_data(at, "text", 300);
    make_data(at, "moved", 300);
    make_data(at, "other", 301);
    REQUIRE(train(at, {"run.steps=2"}).code == 0);
    const Outcome refused = train(at, {"run.steps=4", "data.train=[{path: data/other}]"});
    CHECK(refused.code == 65);
    CHECK_THAT(refused.error,
               Contains("training data has changed") && Contains("data.allow_changed=true"));
    const Outcome length = train(at, {"run.steps=4", "data.sequence_length=8"});
    CHECK(length.code == 65);
    CHECK_THAT(length.error, Contains("data.sequence_length"));
    CHECK(train(at, {"run.steps=4", "data.train=[{path: data/moved}]"}).code == 0);
    const Outcome allowed =
        train(at, {"run.steps=6", "data.train=[{path: data/other}]", "data.allow_changed=true"});
    INFO(allowed.error);
    CHECK(allowed.code == 0);
    CHECK_THAT(allowed.error, Contains("warning: goes on with other training data"));
}

TEST_CASE("a resume warns where the order of samples changes, also within as many epochs",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(10));
    make_data(at, "text", 20);  // 30 samples
    const auto error_of = [&](const std::string& steps) {
        const Outcome outcome = train(at, {"run.steps=" + steps});
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
        return outcome.error;
    };
    // 40 samples, 44, and 60: then the second epoch is needed whole.
    CHECK_THAT(error_of("10"), !Contains("the order of samples"));
    CHECK_THAT(error_of("11"), !Contains("the order of samples"));
    CHECK_THAT(error_of("15"),
               Contains("warning: the order of samples changes: found seed 1234, 2 epochs, "
                        "expected seed 1234, 2 epochs with the last shuffled apart;"));
}

TEST_CASE("a run that begins afresh says so, and warns of checkpoints beside its configuration",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(2));
    make_data(at, "text", 300);
    const Outcome first = train(at, {"run.seed=7"});
    INFO(first.error);
    REQUIRE(first.code == 0);
    CHECK_THAT(first.error, Contains("begins with initial values drawn from run.seed 7; no "
                                     "checkpoint in out/checkpoints") &&
                                !Contains("holds checkpoints"));
    CHECK_THAT(train(at, {"run.steps=4"}).error, !Contains("initial values"));

    fs::rename(at + "/out", at + "/moved");
    const auto train_moved = [&](const Arguments& sets) {
        Arguments arguments{"train", "moved/config.yaml", "--set"};
        arguments.insert(arguments.end(), sets.begin(), sets.end());
        return trireme_in(at, arguments);
    };
    const std::string moved = fs::canonical(at + "/moved").string();
    const Outcome afresh = train_moved({"run.steps=2"});
    INFO(afresh.error);
    CHECK(afresh.code == 0);
    CHECK_THAT(
        afresh.error,
        Contains("warning: the folder of the configuration, " + moved + ", holds checkpoints") &&
            Contains(fs::canonical(at).string() + "/out") &&
            Contains("--set run.output=" + moved) && Contains("begins with initial values"));
    const Outcome never = train_moved({"run.output=third", "checkpoint.resume=never"});
    CHECK_THAT(never.error,
               Contains("; checkpoint.resume is never") && !Contains("holds checkpoints"));
    const Outcome found = train_moved({"run.output=" + moved});
    INFO(found.error);
    CHECK(found.code == 0);
    CHECK_THAT(found.error, Contains("nothing to do") && !Contains("holds checkpoints"));
}

TEST_CASE("tokens are counted on where a resume changes how long a sample is",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(8));
    make_data(at, "text", 300);
    REQUIRE(train(at, {"run.steps=2"}).code == 0);
    const Arguments shorter{"data.sequence_length=8", "data.allow_changed=true"};
    for (const char* steps : {"run.steps=4", "run.steps=6"}) {
        Arguments sets = shorter;
        sets.push_back(steps);
        const Outcome outcome = train(at, sets);
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
    }
    std::vector<int64_t> tokens;
    for (const auto& record : records_with(at + "/out/metrics.jsonl", "tokens")) {
        tokens.push_back(record.at("tokens").get<int64_t>());
    }
    CHECK(tokens == std::vector<int64_t>{64, 128, 160, 192, 224, 256});
    CHECK(CheckpointReader(step_folder(at, 6)).state().tokens == 256);
}

TEST_CASE("damage found while loading makes all processes take the checkpoint before",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(8));
    make_data(at, "text", 300);
    const Outcome whole = train(at, {"run.steps=6", "mesh.pipeline=1", "mesh.data=2"}, 2);
    INFO(whole.error);
    REQUIRE(whole.code == 0);
    CHECK_THAT(whole.error, Contains("of host memory a process") && Contains("s written"));
    CHECK(read_text(at + "/out/checkpoints/LATEST") == "step-00000006\n");
    const std::string damaged = shard_of(step_folder(at, 6));
    const std::string shard = "step-00000006/" + fs::path(damaged).filename().string();
    flip_last_byte(damaged);

    const Outcome named = train(at, {"run.steps=6", "checkpoint.resume=" + step_folder(at, 6)}, 2);
    CHECK(named.code == 65);
    CHECK_THAT(named.error, Contains(shard) && Contains("tensor"));

    const Outcome resumed = train(at, {"run.steps=6"}, 2);
    INFO(resumed.error);
    CHECK(resumed.code == 0);
    CHECK_THAT(resumed.error, Contains("warning: skipped a checkpoint") && Contains(shard) &&
                                  Contains("checksum") && Contains("(step 4,"));
    // The damaged one has been replaced.
    CHECK(CheckpointReader(step_folder(at, 6)).verify().empty());

    for (const int step : {2, 4, 6}) flip_last_byte(shard_of(step_folder(at, step)));
    const Outcome none = train(at, {"run.steps=6"});
    CHECK(none.code == 65);
    CHECK_THAT(none.error, Contains("no checkpoint can be loaded") && Contains("step-00000002") &&
                               Contains("step-00000004") && Contains("step-00000006"));
}

TEST_CASE("eval, generate and export take the checkpoint before one that is damaged inside",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(4));
    make_data(at, "text", 300);
    REQUIRE(train(at, {"run.steps=4"}).code == 0);
    flip_contents(shard_of(step_folder(at, 4)));

    const auto commands = [](const std::string& checkpoint, const std::string& output) {
        return std::vector<Arguments>{
            {"eval", "--checkpoint", checkpoint, "--data", "data/text", "--json"},
            {"generate", "--checkpoint", checkpoint, "--prompt", "line", "--tokens", "2"},
            {"export", "--checkpoint", checkpoint, "--output", output}};
    };
    for (const Arguments& command : commands("out", "hf")) {
        const Outcome outcome = trireme_in(at, command);
        INFO(command[0] << ": " << outcome.error);
        CHECK(outcome.code == 0);
        CHECK_THAT(outcome.error, Contains("warning: skipped a checkpoint") &&
                                      Contains("step-00000004/shard") && Contains("checksum"));
    }
    CHECK(fs::exists(at + "/hf/model.safetensors"));
    const Outcome evaluated = trireme_in(at, commands("out", "").front(), 2);
    INFO(evaluated.error);
    REQUIRE(evaluated.code == 0);
    const auto report = nlohmann::json::parse(evaluated.out);
    CHECK(report.at("step") == 2);
    CHECK_THAT(report.at("checkpoint").get<std::string>(), Contains("step-00000002"));

    // One that is named must be sound itself.
    for (const Arguments& command : commands(step_folder(at, 4), "none")) {
        const Outcome outcome = trireme_in(at, command);
        INFO(command[0] << ": " << outcome.error);
        CHECK(outcome.code == 65);
        CHECK_THAT(outcome.error, Contains("checksum") && !Contains("skipped"));
    }
    flip_contents(shard_of(step_folder(at, 2)));
    for (const Arguments& command : commands("out", "none")) {
        const Outcome outcome = trireme_in(at, command);
        INFO(command[0] << ": " << outcome.error);
        CHECK(outcome.code == 65);
        CHECK_THAT(outcome.error, Contains("step-00000002") && Contains("step-00000004"));
    }
    CHECK(!fs::exists(at + "/none"));
}

}  // namespace trireme::test
