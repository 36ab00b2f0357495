#include <catch2/catch.hpp>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/indexed_dataset_writer.h"
#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// data.keep_documents_apart from a text to an evaluation.

namespace trireme::test {

namespace {

constexpr int kDocuments = 40;

// Documents of 1 to 30 bytes; returns the number of tokens, ends of text included.
int64_t make_documents(const std::string& folder) {
    const std::string text = "A text from which many shorter ones are cut.";
    std::string lines;
    int64_t tokens = 0;
    for (int i = 0; i < kDocuments; ++i) {
        const auto length = static_cast<size_t>(1 + i * 7 % 30);
        lines += nlohmann::json{{"text", text.substr(static_cast<size_t>(i % 9), length)}}.dump();
        lines += "\n";
        tokens += static_cast<int64_t>(length) + 1;
    }
    write_text(folder + "/text.jsonl", lines);
    const Outcome made =
        trireme_in(folder, {"prepare", "--input", "text.jsonl", "--output", "data/text"});
    INFO(made.error);
    REQUIRE(made.code == 0);
    return tokens;
}

std::vector<double> losses_of(const std::string& folder, const std::string& output,
                              Arguments settings, int processes) {
    Arguments arguments{"train", "run.yaml"};
    settings.push_back("run.output=" + output);
    for (const std::string& setting : settings) {
        arguments.push_back("--set");
        arguments.push_back(setting);
    }
    const Outcome outcome = trireme_in(folder, arguments, processes);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    std::istringstream lines(read_text(folder + "/" + output + "/metrics.jsonl"));
    std::vector<double> losses;
    for (std::string line; std::getline(lines, line);) {
        const nlohmann::json record = nlohmann::json::parse(line);
        for (const char* key : {"loss", "valid_loss"}) {
            if (record.contains(key)) losses.push_back(record.at(key).get<double>());
        }
    }
    return losses;
}

}  // namespace

TEST_CASE("documents are kept apart alike on one process and on a pipeline", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    const int64_t tokens = make_documents(at);
    write_text(at + "/run.yaml", tiny_run(4));
    const Arguments apart{"data.keep_documents_apart=true", "model.layers=3",
                          "data.valid=[{path: data/text}]", "evaluation.interval=2",
                          "evaluation.batches=1"};
    Arguments staged = apart;
    staged.push_back("mesh.pipeline=3");
    Arguments together = apart;
    together.front() = "data.keep_documents_apart=false";
    const std::vector<double> alone = losses_of(at, "alone", apart, 1);
    const std::vector<double> pipeline = losses_of(at, "pipeline", staged, 3);
    const std::vector<double> other = losses_of(at, "together", together, 1);
    REQUIRE(alone.size() == 6);
    REQUIRE(pipeline.size() == 6);
    REQUIRE(other.size() == 6);
    for (size_t i = 0; i < alone.size(); ++i) {
        CHECK(pipeline[i] == Approx(alone[i]).epsilon(1e-5));
        CHECK(other[i] != Approx(alone[i]).epsilon(1e-5));
    }

    // An evaluation follows the checkpoint: the first token of a document is no label.
    const auto evaluated = [&](const std::string& checkpoint, const Arguments& more) {
        Arguments arguments{"eval", "--checkpoint", checkpoint, "--data", "data/text", "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const Outcome outcome = trireme_in(at, arguments);
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
        return nlohmann::json::parse(outcome.out);
    };
    CHECK(evaluated("alone", {}).at("tokens") == tokens - kDocuments);
    CHECK(evaluated("alone", {"--set", "data.keep_documents_apart=false"}).at("tokens") ==
          tokens - 1);
}

TEST_CASE("data of which no token counts is told of and has no loss", "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    make_documents(at);
    IndexedDatasetWriter writer(at + "/data/single", 257);
    for (int32_t i = 0; i < 200; ++i) writer.add_document(std::vector<int32_t>{i});
    writer.finish();
    write_text(at + "/run.yaml", tiny_run(3) + "evaluation: {interval: 1, batches: 1}\n");
    const auto train = [&](const std::string& valid) {
        const Outcome outcome =
            trireme_in(at, {"train", "run.yaml", "--set", "data.train=[{path: data/single}]",
                            "data.keep_documents_apart=true", "checkpoint.resume=never",
                            "data.valid=" + valid});
        INFO(outcome.error);
        REQUIRE(outcome.code == 0);
        return outcome.error;
    };
    const auto count = [](const std::string& text, const std::string& words) {
        int found = 0;
        for (size_t i = 0; (i = text.find(words, i)) != std::string::npos; ++i) ++found;
        return found;
    };
    const std::string metrics = at + "/out/metrics.jsonl";
    const std::string error = train("[{path: data/single}]");
    CHECK(count(error, "warning: step 1: no token of the batch counts in a loss") == 1);
    CHECK(count(error, "no token of the batch") == 1);
    CHECK(count(error, "no token of the validation set single counts") == 1);
    CHECK(count(error, "no valid loss: no token counts") == 3);
    CHECK(count(error, "-nan") == 0);
    CHECK(records_with(metrics, "valid_loss").empty());
    CHECK(records_with(metrics, "valid_losses").size() == 3);
    // Another set has its loss.
    train("[{path: data/single}, {path: data/text}]");
    const auto records = records_with(metrics, "valid_loss");
    REQUIRE(records.size() == 3);
    CHECK(records[0].at("valid_losses").size() == 1);
    CHECK(records[0].at("valid_loss") == records[0].at("valid_losses").at("text"));

    const Outcome evaluated = trireme_in(
        at, {"eval", "--checkpoint", "out", "--data", "data/text", "--data", "data/single"});
    CHECK(evaluated.code == 65);
    CHECK(evaluated.out.empty());
    CHECK(evaluated.error.find("data/single: no token counts in a loss") != std::string::npos);
}

}  // namespace trireme::test
