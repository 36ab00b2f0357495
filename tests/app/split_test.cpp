#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "data/indexed_dataset_writer.h"
#include "tests/app/metrics_records.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// data.split from a configuration to an evaluation of its third part.

namespace trireme::test {

using Catch::Contains;

namespace {

// Documents [begin, end) of a text in which no two are alike.
void write_documents(const std::string& prefix, int32_t begin, int32_t end) {
    IndexedDatasetWriter writer(prefix, 257);
    for (int32_t document = begin; document < end; ++document) {
        std::vector<int32_t> tokens;
        for (int32_t i = 0; i < 9 + document % 7; ++i) {
            tokens.push_back((document * 31 + i * i) % 256);
        }
        tokens.push_back(256);
        writer.add_document(tokens);
    }
    writer.finish();
}

// 40 documents, and the parts of the split 30,7,3 as datasets of their own.
class SplitRuns {
public:
    SplitRuns() {
        make_data(at, "other", 4);
        write_documents(at + "/data/text", 0, 40);
        write_documents(at + "/data/first", 0, 30);
        write_documents(at + "/data/second", 30, 37);
        write_documents(at + "/data/third", 37, 40);
        write_text(at + "/run.yaml", tiny_run(4) + "evaluation: {interval: 2, batches: 3}\n");
    }

    Outcome train(const std::string& output, const Arguments& sets) const {
        Arguments arguments{"train", "run.yaml", "--set", "run.output=" + output};
        arguments.insert(arguments.end(), sets.begin(), sets.end());
        return trireme_in(at, arguments);
    }

    Outcome evaluate(const Arguments& more) const {
        Arguments arguments{"eval", "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return trireme_in(at, arguments);
    }

    // What a run has recorded under a key, in its order.
    std::vector<double> values_of(const std::string& output, const char* key) const {
        std::vector<double> values;
        for (const auto& record : records_with(at + "/" + output + "/metrics.jsonl", key)) {
            values.push_back(record.at(key));
        }
        return values;
    }

private:
    const TemporaryFolder folder_;

public:
    const std::string at = folder_.path();
};

}  // namespace

TEST_CASE("the parts of a split train and are evaluated as datasets of their own do",
          "[app][process]") {
    const SplitRuns runs;
    const Outcome split = runs.train("split", {"data.split=30,7,3"});
    INFO(split.error);
    REQUIRE(split.code == 0);
    const Outcome apart = runs.train(
        "apart", {"data.train=[{path: data/first}]", "data.valid=[{path: data/second}]"});
    INFO(apart.error);
    REQUIRE(apart.code == 0);
    for (const char* key : {"loss", "valid_loss"}) {
        INFO(key);
        CHECK(runs.values_of("split", key).size() == (key == std::string("loss") ? 4 : 2));
        CHECK(runs.values_of("split", key) == runs.values_of("apart", key));
    }
    CHECK(records_with(runs.at + "/split/metrics.jsonl", "valid_losses")
              .at(0)
              .at("valid_losses")
              .contains("text"));

    const std::pair<const char*, const char*> parts[] = {
        {"train", "data/first"}, {"valid", "data/second"}, {"test", "data/third"}};
    for (const auto& [part, same] : parts) {
        INFO(part);
        const Outcome of_part =
            runs.evaluate({"--checkpoint", "split", "--data", "data/text", "--part", part});
        const Outcome of_same = runs.evaluate({"--checkpoint", "split", "--data", same});
        INFO(of_part.error);
        REQUIRE(of_part.code == 0);
        REQUIRE(of_same.code == 0);
        const auto figures = nlohmann::json::parse(of_part.out);
        const auto expected = nlohmann::json::parse(of_same.out);
        CHECK(figures.at("tokens") == expected.at("tokens"));
        CHECK(figures.at("loss") == expected.at("loss"));
    }
}

TEST_CASE("a run goes on with the split that it began with", "[app][process]") {
    const SplitRuns runs;
    REQUIRE(runs.train("out", {"data.split=30,7,3", "run.steps=2"}).code == 0);
    const Outcome other = runs.train("out", {"data.split=31,6,3"});
    CHECK(other.code == 65);
    CHECK_THAT(other.error, Contains("data.split"));
    CHECK(runs.train("out", {"data.split=31,6,3", "data.allow_changed=true"}).code == 0);
}

TEST_CASE("a part that is not there is refused", "[app][process]") {
    const SplitRuns runs;
    const Outcome empty = runs.train("out", {"data.split=99,1"});
    CHECK(empty.code == 65);
    CHECK_THAT(empty.error, Contains("none of its 40 sequences"));
    REQUIRE(runs.train("out", {"data.split=98,0,2", "data.valid=[{path: data/other}]"}).code == 0);
    const Outcome missing =
        runs.evaluate({"--checkpoint", "out", "--data", "data/text", "--part", "valid"});
    CHECK(missing.code == 78);
    CHECK_THAT(missing.error, Contains("expected all or a part that the checkpoint's data.split"));
    CHECK(runs.evaluate({"--checkpoint", "out", "--data", "data/text", "--part", "best"}).code ==
          78);
}

}  // namespace trireme::test
