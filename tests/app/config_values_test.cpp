#include "app/config.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "app/config_problems.h"
#include "core/cuda_backend.h"
#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

TEST_CASE("true and false are spelled in the three ways of YAML 1.2", "[app][config]") {
    for (const char* yes : {"true", "True", "TRUE"}) {
        CHECK(small({std::string("model.tie_embeddings=") + yes}).model.tie_embeddings);
    }
    for (const char* no : {"false", "False", "FALSE"}) {
        CHECK_FALSE(small({std::string("model.tie_embeddings=") + no}).model.tie_embeddings);
    }
}

TEST_CASE("wrong types and values out of range are refused with what was found", "[app][config]") {
    struct Case {
        std::string set, found, expected;
    };
    std::vector<Case> cases = {
        {"model.layers=four", "found four", "expected a whole number"},
        {"model.layers=4.0", "found 4.0", "expected a whole number"},
        {"model.layers=1e3", "found 1e3", "expected a whole number"},
        {"model.layers=\"4\"", "found the text \"4\"", "expected a whole number"},
        {"model.layers=0x10", "found 0x10", "expected a whole number"},
        {"model.layers=-3", "found -3", "1 to"},
        {"model.layers=0", "found 0", "1 to"},
        {"model.layers=99999999999999999999", "found 99999999999999999999", "1 to"},
        {"model.layers=[4]", "found a list", "expected a whole number"},
        {"model.layers={a: 4}", "found a section", "expected a whole number"},
        {"model.layers=", "found nothing", "expected a whole number"},
        {"model.layers=~", "found nothing", "expected a whole number"},
        {"run.seed=-1", "found -1", "0 or more"},
        {"optimizer.lr=fast", "found fast, which is no number", "above 0"},
        {"optimizer.lr=0", "found 0", "above 0"},
        {"optimizer.lr=-1e-3", "found -1e-3", "above 0"},
        {"optimizer.lr=nan", "found nan", "above 0"},
        {"optimizer.lr=.nan", "found .nan", "expected a number"},
        {"optimizer.lr=inf", "found inf", "above 0"},
        {"optimizer.lr=1e400", "found 1e400", "above 0"},
        {"optimizer.lr=1e999", "found 1e999, which is infinite in single precision, expected",
         "above 0"},
        {"optimizer.lr=1e-400", "found 1e-400", "above 0"},
        {"optimizer.lr=\"0.1\"", "found the text", "expected a number"},
        {"optimizer.betas=0.9", "found 0.9", "list of two numbers"},
        {"optimizer.betas=[0.9]", "found a list of 1", "list of two numbers"},
        {"optimizer.betas=[0.9, 1.0]", "found 1.0", "below 1"},
        {"optimizer.name=adam", "found adam", "did you mean 'adamw'?"},
        {"model.dropout=1", "found 1", "below 1"},
        {"model.dropout=-0.1", "found -0.1", "at least 0"},
        {"model.family=lama", "found lama, expected gpt2 or llama", "did you mean 'llama'?"},
        {"model.tie_embeddings=yes", "found yes", "expected true or false"},
        {"model.tie_embeddings=1", "found 1", "expected true or false"},
        {"model.tie_embeddings=\"True\"", "found the text", "expected true or false"},
        {"run.name=[a]", "found a list", "expected a text"},
        {"run.name=\"\"", "found an empty text", "at least one character"},
        {"run.name=\"a\\0b\"", "found the text \"a\\x00b\"", "without control characters"},
        {"run.name=a/b", "found a/b", "without '/'"},
        {"data.train=[]", "found an empty list", "at least one dataset"},
        {"data.train=a", "found a", "expected a list like [{path: PREFIX, weight: 1}]"},
        {"data.train=[{weight: 1}]", "item 1", "found no path"},
        {"data.train=[{path: a, weight: 1e308}, {path: b, weight: 1e308}]", "sum is too large",
         "expected smaller ones"},
        {"data.valid=[{path: a, weight: 1e308}, {path: b, weight: 1e308}]", "sum is too large",
         "expected smaller ones"},
        {"data.train=[{path: a, format: nanogtp}]", "format: found nanogtp", "mean 'nanogpt'"},
        {"run.name=exp #3", "found exp and a comment", "in quotes"},
        {"data.split=1,2,3,4", "found 1,2,3,4", "one to three weights"},
        {"data.split=[1, 2]", "found a list", "969,30,1"},
        {"data.split=0,1", "data.split", "a first weight above 0"},
        {"data.phases=[{weights: [1]}]", "item 1", "found no after_step"},
        {"data.valid=[{path: a, name: x}, {path: b, name: x}]", "two sets called x",
         "a name of its own"},
        {"data.phases=[{after_step: 1, weights: [0]}]", "weights", "one above 0"},
        {"data.phases=[{after_step: 1}]", "item 1", "found no weights"},
        {"data.phases=[{after_step: 1, weights: [1, -1]}]", "weights: item 2", "found -1"},
        {"data.phases=[{after_step: 1, weights: [1, 2]}]", "2 weights",
         "one for each of data.train"},
        {"data.phases=[{after_step: 1, weights: [1]}, {after_step: 1, weights: [2]}]", "item 2",
         "found 1, expected more than 1"},
        {"data.phases=[{after_step: 1000000, weights: [1]}]", "after step 1000000", "run.steps"},
        {"data.train=[a, {path: b, weight: 0}]", "item 2", "weight: found 0"},
        {"testing.links=data", "found data", "expected a list like [{axis: data"},
        {"testing.links=[{latency_ms: 1}]", "item 1", "found no axis"},
        {"testing.links=[{axis: dta}]", "axis: found dta", "did you mean 'data'?"},
        {"testing.links=[{axis: data, latency: 1}]", "unknown key 'latency'", "latency_ms"},
        {"testing.links=[{axis: data, latency_ms: -1}]", "latency_ms: found -1", "at least 0"},
        {"testing.links=[{axis: data}, {axis: data}]", "item 2", "axis data for the second time"},
        {"testing.faults=nan", "found nan", "expected a list like [{rank: 0, step: 1"},
        {"testing.faults=[{step: 1}]", "item 1", "found no tensor"},
        {"testing.faults=[{step: 1, tnesor: a}]", "unknown key 'tnesor'", "did you mean 'tensor'?"},
        {"testing.faults=[{step: 1, tensor: a, action: flip}]", "action: found flip", "flip-bit"},
        {"data.train=[{paht: b}]", "unknown key 'paht'", "did you mean 'path'?"},
        {"mesh.data=all", "found all", "or auto"},
        {"mesh.tensor=0", "found 0", "1 to"},
        {"checkpoint.keep=0", "found 0", "1 to"},
        {"logging.interval=0", "found 0", "1 to"},
        {"run.steps=0", "found 0", "1 to"},
        {"batch.micro=0", "found 0", "1 to"},
    };
    if (!cuda_is_built_in()) {
        cases.push_back(
            {"device.backend=cuda", "found cuda, which is not built in", "expected auto or cpu"});
    }
    for (const Case& c : cases) {
        const std::string message = refusal_of_set({c.set});
        INFO(c.set << " -> " << message);
        const std::string key = c.set.substr(0, c.set.find('='));
        CHECK_THAT(message, Contains("--set " + shown(c.set) + ": " + key + ": "));
        CHECK_THAT(message, Contains(c.found) && Contains(c.expected));
        CHECK_THAT(message, !Contains("problems"));
    }
}

TEST_CASE("a number that single precision cannot hold is refused as what it becomes",
          "[app][config]") {
    struct Case {
        std::string set, becomes;
    };
    const std::vector<Case> cases = {
        {"optimizer.lr=1e39", "infinite"},
        {"optimizer.lr=1e-46", "0"},
        {"optimizer.eps=1e-46", "0"},
        {"optimizer.weight_decay=1e39", "infinite"},
        {"schedule.min_lr=1e-400", "0"},
        {"optimizer.clip_norm=1e-60", "0"},
        {"optimizer.clip_norm=1e400", "infinite"},
        {"model.dropout=0.999999999", "1"},
        {"model.norm_eps=1e-46", "0"},
    };
    for (const Case& c : cases) {
        const std::string message = refusal_of_set({c.set});
        INFO(c.set << " -> " << message);
        const std::string value = c.set.substr(c.set.find('=') + 1);
        CHECK_THAT(message, Contains("found " + value + ", which is " + c.becomes +
                                     " in single precision, expected a number"));
    }
    CHECK_THAT(refusal_of_set({"optimizer.betas=[0.9, 0.9999999999]"}),
               Contains("found 0.9999999999, which is 1 in single precision"));
    CHECK_THAT(refusal_of_set({"data.train=[{path: a, weight: 1e-400}]"}),
               Contains("found 1e-400, which is 0 in double precision"));
    // What rounds to a neighbour is taken, and a double is kept as it was written.
    CHECK(small({"optimizer.eps=1e-40"}).optimizer.eps == 1e-40);
    CHECK(small({"optimizer.lr=0.1"}).optimizer.lr == 0.1);
    CHECK(small({"optimizer.clip_norm=0.1"}).optimizer.clip_norm == 0.1f);
    CHECK(small({"optimizer.clip_norm=0e9"}).optimizer.clip_norm == 0.0f);
    CHECK(small({"optimizer.weight_decay=0"}).optimizer.weight_decay == 0.0);
}
