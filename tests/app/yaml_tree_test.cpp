#include "app/yaml_tree.h"

#include <catch2/catch.hpp>
#include <ctime>
#include <string>
#include <vector>

#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

TEST_CASE("YAML that is more than data is refused", "[app][config]") {
    CHECK_THAT(refusal("run: {steps: !!int 1}"), Contains("c.yaml:1: run.steps: found the tag"));
    CHECK_THAT(refusal("run: !x {steps: 1}"), Contains("run: found the tag !x"));
    CHECK_THAT(refusal("run:\n  <<: {steps: 1}"), Contains("c.yaml:2: run.<<: found a merge key"));
    CHECK_THAT(refusal("run: {[a]: 1}"), Contains("found a key that is not a word"));
    CHECK_THAT(refusal("run: {steps: 1}\n---\nrun: {}"), Contains("found a second document"));
    CHECK_THAT(refusal("run: {steps: 1\nmodel: ["), Contains("found a syntax error"));
    CHECK_THAT(refusal("[1, 2]"), Contains("found no sections"));
    CHECK_THAT(refusal("run: 5"), Contains("c.yaml:1: run: found a single value"));
    CHECK_THAT(refusal("run: {name: \xff}"), Contains("offset 12, expected UTF-8"));
    CHECK_THAT(refusal(std::string("run:\n\0", 6)), Contains("c.yaml:2: found a byte"));
}

TEST_CASE("an alias stands for a copy of what its anchor marks", "[app][config]") {
    std::vector<YamlProblem> problems;
    const YamlNode root =
        parse_yaml("a: &a {x: &x 1, y: [2, *x]}\nb: *a\nc: &a 3\nd: *a\n*x : 5\n", problems);
    CHECK(problems.empty());
    REQUIRE(root.items.size() == 5);
    REQUIRE(root.items[1].items.size() == 2);
    CHECK(root.items[1].items[1].items.at(1).text == "1");
    CHECK(root.items[3].text == "3");
    CHECK(root.keys[4].text == "1");

    const std::string shared =
        "run: {steps: 1}\nmodel: {layers: &n 4, hidden: 16, heads: *n, vocab_size: 257, "
        "max_sequence_length: 32}\ndata: {train: &set [{path: t}], valid: *set}\n"
        "batch: {global: *n}\n";
    const Config config = parse_config(shared, "c.yaml");
    CHECK(config.model.heads == 4);
    CHECK(config.batch.global == 4);
    CHECK(config.data.valid.at(0).path == "t");
    // A mistake in what is shared is told for each place, on the line where it stands.
    CHECK_THAT(refusal("run: &a {stepz: 1}\nmodel: *a"),
               Contains("c.yaml:1: run.stepz") && Contains("c.yaml:1: model.stepz"));
}

TEST_CASE("aliases that go round, on without end, or nowhere are refused", "[app][config]") {
    CHECK_THAT(refusal("run: &a {steps: *a}"), Contains("c.yaml:1: run.steps: found an alias of"));
    CHECK_THAT(refusal("run: *a"), Contains("c.yaml:1:"));
    std::string values = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n", deep = "a0: &a0 [1]\n";
    for (int i = 1; i < 40; ++i) {
        const std::string name = "a" + std::to_string(i), former = "*a" + std::to_string(i - 1);
        values += name + ": &" + name + " [";
        for (int k = 0; k < 10; ++k) values += former + ", ";
        values += "]\n";
        deep += name + ": &" + name + " [" + former + "]\n";
    }
    CHECK_THAT(refusal(values), Contains("c.yaml:5: found more than 100000 values"));
    CHECK_THAT(refusal(deep), Contains("c.yaml:32: found more than 32 levels"));
    std::string text = "a: &a " + std::string(100000, 'x') + "\nb: [";
    for (int i = 0; i < 20; ++i) text += "*a, ";
    CHECK_THAT(refusal(text + "]"), Contains("c.yaml:2: found aliases of more than 1 MiB"));
}

TEST_CASE("huge, deep and repetitive YAML is refused quickly", "[app][config][long]") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    constexpr std::clock_t kMostSeconds = 100;  // all takes ten times as long
#else
    constexpr std::clock_t kMostSeconds = 20;
#endif
    const std::clock_t begin = std::clock();  // not what other programs take
    CHECK_THAT(refusal(std::string((1u << 20) + 1, '#')), Contains("at most 1048576"));
    CHECK(refusal(std::string(1u << 20, '\n')).find("run.steps") != std::string::npos);
    CHECK_THAT(refusal(std::string(500000, '[')), Contains("levels of nesting"));
    std::string nested;
    for (int i = 0; i < 200; ++i) nested += std::string(static_cast<size_t>(i), ' ') + "a:\n";
    CHECK_THAT(refusal(nested), Contains("levels of nesting"));
    std::string many = "[";
    for (int i = 0; i < 150000; ++i) many += "1,";
    CHECK_THAT(refusal(many + "]"), Contains("more than 100000 values"));
    std::string keys;
    for (int i = 0; i < 40000; ++i) keys += "model_" + std::to_string(i) + ":\n";
    CHECK_THAT(refusal(keys), Contains("and 39908 more"));
    CHECK(refusal("run: {" + std::string(300000, 'n') + ": 1}").size() < 2000);
    CHECK(std::clock() - begin < kMostSeconds * CLOCKS_PER_SEC);
}

TEST_CASE("a text survives as a YAML scalar", "[app][config]") {
    for (const std::string text : {"plain/path-1.2", "null", "", "- a", "a: b", "# c", "tab\there",
                                   "\"quoted\"", "back\\slash", "line\nbreak", "ümläut", "~", "-x",
                                   "{a}", "true", " lead", "trail ", "\x01"}) {
        std::vector<YamlProblem> problems;
        const YamlNode node = parse_yaml("k: [" + yaml_text(text) + "]", problems);
        INFO(yaml_text(text));
        CHECK(problems.empty());
        REQUIRE(node.items.size() == 1);
        REQUIRE(node.items[0].items.size() == 1);
        CHECK(node.items[0].items[0].kind == YamlNode::Kind::scalar);
        CHECK(node.items[0].items[0].text == text);
    }
}
