#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/dataset_tokenizers.h"
#include "data/dataset_manifest.h"
#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"
#include "tests/data/tokenizer_test_support.h"

// The commands as a user strings them together, from a text to what the model writes.

namespace trireme::test {

using Catch::Contains;

namespace {

const char* const kRun = R"(run: {name: tiny, output: out, steps: 6}
device: {threads: 1}
model: {layers: 2, hidden: 16, heads: 2, vocab_size: 257, max_sequence_length: 16, dropout: 0.1}
data:
  train: [{path: data/text-train}]
  valid: [{path: data/text-valid}]
batch: {global: 4, micro: 1}
optimizer: {lr: 1.0e-2}
schedule: {name: constant}
evaluation: {interval: 3, batches: 1}
checkpoint: {interval: 3}
logging: {interval: 1}
)";

Outcome succeed(const std::string& folder, const Arguments& arguments, int processes = 1) {
    const Outcome outcome = trireme_in(folder, arguments, processes);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    return outcome;
}

double evaluated_loss(const std::string& folder, int processes) {
    const Outcome outcome = succeed(
        folder, {"eval", "--checkpoint", "out", "--data", "data/text-valid", "--json"}, processes);
    return nlohmann::json::parse(outcome.out).at("loss").get<double>();
}

}  // namespace

TEST_CASE("a text becomes a model that is resumed, evaluated, inspected and writes",
          "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", small_text(300));
    write_text(at + "/run.yaml", kRun);
    succeed(at,
            {"prepare", "--input", "text.txt", "--output", "data/text", "--valid-fraction", "0.1"});

    // All steps in one process, then the second half again in four, on another mesh.
    succeed(at, {"train", "run.yaml", "--set", "run.steps=6"});
    const auto whole = records_with(at + "/out/metrics.jsonl", "loss");
    REQUIRE(whole.size() == 6);
    std::filesystem::remove_all(at + "/out/checkpoints/step-00000006");
    const Outcome resumed =
        succeed(at, {"train", "run.yaml", "--set", "mesh.tensor=2", "mesh.pipeline=2"}, 4);
    CHECK(resumed.error.find("resumed from") != std::string::npos);
    const auto again = records_with(at + "/out/metrics.jsonl", "loss");
    REQUIRE(again.size() == 6);
    for (size_t i = 0; i < whole.size(); ++i) {
        INFO("step " << i + 1);
        const double expected = whole[i].at("loss").get<double>();
        CHECK(again[i].at("step") == i + 1);
        CHECK(again[i].at("loss").get<double>() == Approx(expected).epsilon(1e-5));
        CHECK(again[i].at("tokens") == (i + 1) * 64);
    }
    CHECK(records_with(at + "/out/metrics.jsonl", "valid_loss").size() == 2);

    // On a slow data axis the loss is the same and the waits stand in the metrics.
    succeed(at,
            {"train", "run.yaml", "--set", "run.output=slow", "run.steps=2", "mesh.data=2",
             "testing.links=[{axis: data, latency_ms: 30}]"},
            2);
    const auto slow = records_with(at + "/slow/metrics.jsonl", "loss");
    REQUIRE(slow.size() == 2);
    CHECK(slow[1].at("loss").get<double>() ==
          Approx(whole[1].at("loss").get<double>()).epsilon(1e-5));
    CHECK(slow[1].at("comm_exposed_data_seconds").get<double>() > 0.03);
    CHECK(slow[1].at("comm_exposed_tensor_seconds").get<double>() == 0.0);
    CHECK(slow[1].at("comm_exposed_pipeline_seconds").get<double>() == 0.0);
    CHECK(slow[1].at("comm_exposed_seconds") == slow[1].at("comm_exposed_data_seconds"));

    // The resolved configuration repeats the run, here with nothing left to do.
    const Outcome repeated = succeed(at, {"train", "out/config.yaml"}, 4);
    CHECK(repeated.error.find("nothing to do") != std::string::npos);

    const double loss = evaluated_loss(at, 1);
    CHECK(loss > 0.0);
    CHECK(evaluated_loss(at, 4) == Approx(loss).epsilon(1e-6));

    const Arguments generate = {"generate", "--checkpoint", "out",    "--prompt", "line ",
                                "--tokens", "12",           "--seed", "7"};
    const std::string written = succeed(at, generate).out;
    CHECK(written.starts_with("line "));
    CHECK(succeed(at, generate, 4).out == written);
    const Outcome cut = succeed(at, {"generate", "--checkpoint", "out", "--prompt",
                                     std::string(100, 'a'), "--tokens", "1"});
    CHECK(cut.error.find("the prompt has 100 tokens and the model sees") != std::string::npos);

    const auto inspected =
        nlohmann::json::parse(succeed(at, {"inspect", "out", "--verify", "--json"}).out);
    CHECK(inspected.at("step") == 6);
    const std::string dataset = succeed(at, {"inspect", "data/text-valid"}).out;
    CHECK(dataset.find("uint16") != std::string::npos);
    CHECK(dataset.find("257 ids, the largest that occurs is 256") != std::string::npos);
}

TEST_CASE("a model with more ids than its tokenizer has tokens writes tokens alone",
          "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    make_data(at, "text", 20);
    write_text(at + "/run.yaml", tiny_run(1));
    succeed(at, {"train", "run.yaml", "--set", "model.vocab_size=900"});
    succeed(at, {"generate", "--checkpoint", "out", "--prompt", "line ", "--tokens", "40",
                 "--temperature", "1000"});
}

TEST_CASE("a run leaves the file that it was started from as it is", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", small_text(300));
    succeed(at,
            {"prepare", "--input", "text.txt", "--output", "data/text", "--valid-fraction", "0.1"});
    const std::string own = std::string("# mine\n") + kRun;
    write_text(at + "/out/config.yaml", own);
    succeed(at, {"train", "./out/config.yaml", "--set", "run.steps=1"});
    CHECK(read_text(at + "/out/config.yaml") == own);
    // What held for that start alone, such as its number of processes, is not in the way now.
    succeed(at, {"train", "out/config.yaml", "--set", "run.steps=2"}, 2);
    CHECK(read_text(at + "/out/config.yaml") == own);
    CHECK(std::filesystem::exists(at + "/out/checkpoints/step-00000002"));

    write_text(at + "/run.yaml", own);
    succeed(at, {"train", "run.yaml", "--set", "run.steps=3"});
    const std::string resolved = read_text(at + "/out/config.yaml");
    CHECK(resolved.find("steps: 3") != std::string::npos);
    CHECK(resolved.find("# mine") == std::string::npos);
    CHECK(read_text(at + "/run.yaml") == own);
}

TEST_CASE("datasets of another tokenizer than data.tokenizer are told, and those of two tokenizers",
          "[app][config]") {
    const TemporaryFolder folder;
    const std::string at = folder.path() + "/", file = at + "tokenizer.json";
    write_text(file, ToyVocabulary().json());
    const auto make = [&](const std::string& name, const std::string& tokenizer,
                          const std::string& fingerprint) {
        write_text(at + name + ".bin", "abcd");
        DatasetManifest manifest;
        manifest.tokenizer = tokenizer;
        manifest.tokenizer_fingerprint = fingerprint;
        manifest.token_type = "uint16";
        manifest.bin.bytes = 4;
        write_manifest(at + name, manifest);
    };
    const std::string fingerprint = make_tokenizer(file)->fingerprint();
    for (const char* name : {"a", "b", "c", "d"}) make(name, file, fingerprint);
    make("bytes", "byte", "byte");
    write_text(at + "elsewhere.bin", "abcd");
    make("rewritten", "byte", "byte");
    write_text(at + "rewritten.bin", "of another program");
    make("damaged", "byte", "byte");
    write_text(at + "damaged.json", R"({"format": "trireme-dataset", "version": 1})");

    Config config;
    const auto warning = [&](const std::vector<std::string>& names) {
        std::vector<DataSourceOptions> sources;
        for (const std::string& name : names) sources.push_back({.path = at + name});
        return tokenizer_warning(sources, config);
    };
    const std::vector<std::string> unknown = {"elsewhere", "rewritten", "damaged", "none"};
    CHECK(warning({"bytes", "bytes"}).empty());
    config.data.tokenizer = file;
    CHECK(warning(unknown).empty());
    CHECK(warning({"a", "b", "elsewhere"}).empty());
    config.places["data.tokenizer"] = {};
    CHECK_THAT(warning({"bytes"}),
               Contains("dataset " + at + "bytes is byte, but data.tokenizer is " + file) &&
                   Contains("set data.tokenizer=byte"));
    CHECK_THAT(warning({"a", "bytes", "b"}),
               Contains("different tokenizers") &&
                   Contains(file + " for datasets " + at + "a, " + at + "b; byte for dataset " +
                            at + "bytes") &&
                   Contains("data.tokenizer"));
    make("changed", file, "of a former file");
    CHECK_THAT(warning({"changed"}), Contains("is not the same now"));
    config.data.tokenizer = at + "missing.json";
    CHECK_THAT(warning({"a"}), Contains("cannot be compared") && Contains("missing.json"));
    CHECK(warning(unknown).empty());

    config.data.tokenizer = "byte";
    config.places.clear();
    CHECK_THAT(warning({"a", "b", "c", "d", "a"}),
               Contains("datasets " + at + "a, " + at + "b, " + at + "c and 1 more is " + file) &&
                   Contains("is not set, which means byte") &&
                   Contains("set data.tokenizer=" + file));
}

TEST_CASE("train and eval warn of a dataset whose tokenizer is not data.tokenizer",
          "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", small_text(300));
    write_text(at + "/tokenizer.json", ToyVocabulary().json());
    write_text(at + "/run.yaml", kRun);
    succeed(at, {"prepare", "--input", "text.txt", "--output", "data/text", "--tokenizer",
                 "tokenizer.json", "--valid-fraction", "0.1"});
    const Arguments train = {"train", "run.yaml", "--set", "run.steps=1", "model.vocab_size=285"};
    const std::string advice = "set data.tokenizer=tokenizer.json";
    CHECK_THAT(succeed(at, train).error,
               Contains("warning: the tokenizer of datasets data/text-train, data/text-valid") &&
                   Contains(advice));
    Arguments eval = {"eval", "--checkpoint", "out", "--data", "data/text-valid"};
    CHECK_THAT(succeed(at, eval).error, Contains(advice));
    eval.insert(eval.end(), {"--set", "data.tokenizer=tokenizer.json"});
    CHECK_THAT(succeed(at, eval).error, !Contains("tokenizer"));
    Arguments right = train;
    right.insert(right.end(), {"run.output=right", "data.tokenizer=tokenizer.json"});
    CHECK_THAT(succeed(at, right).error, !Contains("tokenizer"));
}

TEST_CASE("without a tokenizer a run trains, is evaluated and exported, and writes no text",
          "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    // As nanoGPT's shakespeare_char has them: 65 ids of two bytes.
    std::string tokens;
    for (int i = 0; i < 400; ++i) tokens += {static_cast<char>(i * i % 65), '\0'};
    write_text(at + "/train.bin", tokens);
    write_text(at + "/run.yaml", R"(run: {name: tiny, output: out, steps: 2}
device: {threads: 1}
model: {layers: 1, hidden: 16, heads: 2, vocab_size: 65, max_sequence_length: 16}
data: {train: [{path: train.bin, format: nanogpt}], tokenizer: none}
batch: {global: 4}
)");
    const Outcome byte = trireme_in(at, {"train", "run.yaml", "--set", "data.tokenizer=byte"});
    CHECK(byte.code == 78);
    CHECK_THAT(byte.error, Catch::Contains("at least 257") && Catch::Contains("tokenizer none"));
    succeed(at, {"train", "run.yaml"});
    const Arguments evaluate = {"eval",      "--checkpoint", "out",     "--data",
                                "train.bin", "--format",     "nanogpt", "--json"};
    const auto loss = nlohmann::json::parse(succeed(at, evaluate).out).at("loss").get<double>();
    CHECK(loss > 0.0);

    write_text(at + "/questions.jsonl", "{}\n");
    for (const Arguments& arguments :
         {Arguments{"generate", "--checkpoint", "out", "--prompt", "a"},
          Arguments{"eval", "--checkpoint", "out", "--choices", "questions.jsonl"}}) {
        const Outcome refused = trireme_in(at, arguments);
        CHECK(refused.code == 78);
        CHECK_THAT(refused.error, Catch::Contains("data.tokenizer: found none") &&
                                      Catch::Contains("--set data.tokenizer=FILE"));
    }

    const Outcome exported = succeed(at, {"export", "--checkpoint", "out", "--output", "hf"});
    CHECK_THAT(exported.error, Catch::Contains("the folder gets no tokenizer"));
    CHECK(!std::filesystem::exists(at + "/hf/tokenizer.json"));
    succeed(at, {"import", "--input", "hf", "--output", "again"});
    Arguments evaluate_again = evaluate;
    evaluate_again[2] = "again";
    const auto again = nlohmann::json::parse(succeed(at, evaluate_again).out);
    CHECK(again.at("loss").get<double>() == Approx(loss).epsilon(1e-6));
}

TEST_CASE("inspect describes a dataset whose manifest is damaged, and says that it is",
          "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", "a text of one line\n");
    succeed(at, {"prepare", "--input", "text.txt", "--output", "text"});
    write_text(at + "/text.json", R"({"format": "trireme-dataset", "version": 1})");
    const Outcome shown = trireme_in(at, {"inspect", "text"});
    CHECK(shown.code == 65);
    CHECK(shown.out.find("20 of type uint16") != std::string::npos);
    CHECK(shown.error.find("text.json") != std::string::npos);
    const Outcome verified = trireme_in(at, {"inspect", "text", "--verify", "--json"});
    CHECK(verified.code == 65);
    const auto json = nlohmann::json::parse(verified.out);
    CHECK(json.at("tokens") == 20);
    CHECK(json.at("faults").size() == 1);
}

}  // namespace trireme::test
