#include "app/config_problems.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

namespace {

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

}  // namespace

TEST_CASE("an unknown key names its line and the nearest known key", "[app][config]") {
    struct Case {
        std::string text, line, key, suggestion;
    };
    const std::vector<Case> cases = {
        {"run: {nmae: x}", "1", "run.nmae", "run.name"},
        {"\nmodel:\n  layer: 3", "3", "model.layer", "model.layers"},
        {"\nmodle: {}", "2", "modle", "model"},
        {"lr: 1", "1", "lr", "optimizer.lr"},
        {"model: {lr: 1}", "1", "model.lr", "optimizer.lr"},
        {"recomptue: none", "1", "recomptue", "recompute"},
        {"optimizer: {learning_rate_of_doom: 1}", "1", "optimizer.learning_rate_of_doom", ""},
    };
    for (const Case& c : cases) {
        const std::string message = refusal(c.text);
        INFO(message);
        CHECK_THAT(message, Contains("c.yaml:" + c.line + ": " + c.key + ": found an unknown key"));
        if (!c.suggestion.empty()) {
            CHECK_THAT(message, Contains("did you mean '" + c.suggestion + "'?"));
        }
    }
    CHECK_THAT(refusal_of_set({"optimzer.lr=1"}),
               Contains("--set optimzer.lr=1: optimzer.lr: found an unknown key") &&
                   Contains("did you mean 'optimizer.lr'?"));
    CHECK_THAT(refusal_of_set({"mesh.tensr=1"}), Contains("did you mean 'mesh.tensor'?"));
    CHECK_THAT(refusal_of_set({"model=1"}), Contains("found a section"));
    CHECK_THAT(refusal_of_set({"run.steps"}), Contains("found no key=value"));
}

TEST_CASE("a dotted key outside its section is shown where it belongs", "[app][config]") {
    CHECK_THAT(refusal("run.steps: 3"),
               Contains("c.yaml:1: run.steps: found a dotted key outside its section") &&
                   Contains("write `run: {steps: ...}` instead"));
    CHECK_THAT(refusal("\npipeline.cost.forward: 3"),
               Contains("c.yaml:2: ") && Contains("`pipeline: {cost.forward: ...}`"));
    CHECK_THAT(refusal("pipeline.cost: {forward: 3}"), Contains("`pipeline: {cost: ...}`"));
    CHECK_THAT(refusal("run.stepps: 3"), Contains("did you mean 'run.steps'?"));
}

TEST_CASE("keys with dots in their names may be written as sections in sections", "[app][config]") {
    const auto costs = [](const std::string& pipeline) {
        return parse_config(
                   "run: {name: x, steps: 2}\n"
                   "model: {layers: 2, hidden: 8, heads: 2, vocab_size: 257,\n"
                   "        max_sequence_length: 8}\n"
                   "data: {train: [{path: a}]}\nbatch: {global: 4}\n"
                   "pipeline: " +
                       pipeline,
                   "c.yaml")
            .pipeline.costs;
    };
    for (const std::string text :
         {"{cost: {forward: 2, transfer: 0.5}}", "{cost.forward: 2, cost.transfer: 0.5}",
          "{cost: {forward: 2}, cost.transfer: 0.5}"}) {
        INFO(text);
        CHECK(costs(text).forward == 2.0);
        CHECK(costs(text).transfer == 0.5);
    }
    CHECK(costs("{cost: }").forward == costs("{}").forward);
    CHECK_THAT(refusal("pipeline:\n  cost.forward: 1\n  cost:\n    forward: 1\n"),
               Contains("c.yaml:4: pipeline.cost.forward: found a second time, expected once "
                        "(first on line 2)"));
    CHECK_THAT(refusal("pipeline:\n  cost:\n    forwrad: 1\n"),
               Contains("c.yaml:3: pipeline.cost.forwrad: found an unknown key") &&
                   Contains("did you mean 'pipeline.cost.forward'?"));
    CHECK_THAT(refusal("pipeline: {cost: 3}"),
               Contains("pipeline.cost: found a single value or list"));
    CHECK_THAT(refusal("pipeline: {cost: {forward: -1}}"),
               Contains("pipeline.cost.forward: found -1"));
    CHECK_THAT(refusal_of_set({"pipeline.cost={forward: 1}"}), Contains("found a section"));
}

TEST_CASE("duplicate keys are found on every level", "[app][config]") {
    CHECK_THAT(refusal("run: {steps: 1}\nmodel: {}\nrun: {steps: 2}"),
               Contains("c.yaml:3: run: found a second time, expected once (first on line 1)"));
    CHECK_THAT(refusal("model:\n  layers: 1\n  hidden: 3\n  layers: 2"),
               Contains("c.yaml:4: model.layers: found a second time") && Contains("line 2"));
    CHECK_THAT(refusal("data: {train: [{path: a, path: b}]}"), Contains("data.train.path"));
}

TEST_CASE("missing required keys are all named", "[app][config]") {
    const std::string message = refusal("");
    for (const char* key :
         {"run.steps", "model.layers", "model.hidden", "model.heads", "model.vocab_size",
          "model.max_sequence_length", "batch.global", "data.train"}) {
        CHECK_THAT(message, Contains(std::string("c.yaml: ") + key + ": found nothing"));
    }
    CHECK_THAT(message, Contains("8 problems in the configuration"));
}

TEST_CASE("all problems are reported at once in the order of the file", "[app][config]") {
    const std::string text = R"(run: {steps: 0, sped: 1}
model:
  family: lama
  layers: 2
  layers: 3
  hidden: 48
  heads: 7
  vocab_size: 257
  max_sequence_length: 8
data: {train: [x]}
batch: {global: 5, micro: 2}
)";
    const std::string message = refusal(text, {"mesh.tensor=three", "run.nmae=x"}, 1);
    INFO(message);
    const std::vector<std::string> parts = {
        "c.yaml:1: run.sped",     "c.yaml:1: run.steps",   "c.yaml:3: model.family",
        "c.yaml:5: model.layers", "c.yaml:7: model.heads", "c.yaml:11: batch.global",
        "--set run.nmae=x",
    };
    size_t last = 0;
    for (const std::string& part : parts) {
        INFO(part);
        CHECK(count_of(message, part) == 1);
        CHECK(message.find(part) > last);
        last = message.find(part);
    }
    CHECK_THAT(message, Contains("8 problems") && Contains("--set mesh.tensor=three"));
}

TEST_CASE("the nearest word is found within a few letters", "[app][config]") {
    CHECK(edit_distance("abc", "acb", 3) == 1);
    CHECK(edit_distance("kitten", "sitting", 5) == 3);
    CHECK(edit_distance("", "ab", 3) == 2);
    CHECK(edit_distance("a", "abcdef", 2) > 2);
    CHECK(nearest_word("hiden", {"heads", "hidden"}) == "hidden");
    CHECK(nearest_word("xyz", {"heads", "hidden"}).empty());
}
