#include "app/config.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "app/schema.h"
#include "core/error.h"
#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

TEST_CASE("defaults follow from the other values", "[app][config]") {
    const Config config = small();
    CHECK(config.run.output == "runs/small");
    CHECK(config.model.kv_heads == 2);
    CHECK(config.model.head_dim == 8);
    CHECK(config.model.ffn_hidden == 128);
    CHECK_FALSE(config.model.tie_embeddings);
    CHECK(config.data.sequence_length == 33);
    CHECK(config.mesh.data == 0);
    CHECK(config.data.train.at(0).weight == 1.0);

    const Config gpt2 = small({"model.family=gpt2", "model.kv_heads=6"});
    CHECK(gpt2.model.tie_embeddings);
    CHECK(gpt2.model.ffn_hidden == 192);
    CHECK_FALSE(small({"model.family=gpt2", "model.tie_embeddings=false"}).model.tie_embeddings);
}

TEST_CASE("the llama feed-forward default rounds up to a multiple of 16", "[app][config]") {
    Config config = small();
    config.model.hidden = 256;
    config.model.ffn_hidden = 0;
    resolve(config);
    CHECK(config.model.ffn_hidden == 688);
}

TEST_CASE("a resolved configuration parses back to the same one", "[app][config]") {
    const Sets odd = {"run.name=\"a: b #c\\\\ \\\"d\\\"\"",
                      "run.seed=9223372036854775807",
                      "optimizer.lr=0.00037219",
                      "optimizer.betas=[0.8999, 0.999]",
                      "data.train=[{path: \"x, y\", weight: 0.1}, {path: z}, -w, {path: 's*.bin', "
                      "format: llmc, name: web}]",
                      "data.phases=[{after_step: 0, weights: [1, 0.25, 0, 3]}]",
                      "data.split=9 / 1.5",
                      "data_parallel.bucket_mb=0.3",
                      "schedule.name=wsd",
                      "schedule.decay_steps=3",
                      "schedule.min_lr=1e-9",
                      "precision.compute=bf16",
                      "checkpoint.resume=null-folder",
                      "model.dropout=0.1",
                      "testing.links=[{axis: tensor, latency_ms: 0.1}, {axis: data, "
                      "bandwidth_mb_per_s: 12.5}]"};
    for (const Sets& sets : {Sets{}, odd}) {
        const Config config = small(sets);
        const std::string text = dump_config(config);
        const Config again = parse_config(text, "dump");
        CHECK(dump_config(again) == text);
        CHECK(again.run.name == config.run.name);
        CHECK(again.run.seed == config.run.seed);
        CHECK(again.optimizer.lr == config.optimizer.lr);
        CHECK(again.optimizer.beta1 == config.optimizer.beta1);
        CHECK(again.schedule.shape == config.schedule.shape);
        CHECK(again.data.train.size() == config.data.train.size());
        CHECK(again.data.train.front().weight == config.data.train.front().weight);
        for (const SchemaRow& row : config_schema()) {
            INFO(row.key);
            CHECK(again.is_given(row.key));
        }
    }
    const std::vector<LinkOptions> links = small(odd).testing.links;
    REQUIRE(links.size() == 2);
    CHECK(links[0].axis == MeshAxis::tensor);
    CHECK(links[0].latency_ms == 0.1);
    CHECK(links[0].bandwidth_mb_per_s == 0.0);
    CHECK(links[1].bandwidth_mb_per_s == 12.5);
    CHECK(small(odd).run.name == "a: b #c\\ \"d\"");
}

TEST_CASE("every key can be written, read back and found in the reference", "[app][config]") {
    const Config config = small();
    const std::string page = configuration_reference();
    for (const SchemaRow& row : config_schema()) {
        INFO(row.key);
        CHECK_THAT(page, Contains("`" + row.key + "`"));
        CHECK(row.description.back() == '.');
        CHECK(refusal_of_set({row.key + "=" + row.write(config)}) == "");
    }
}

TEST_CASE("docs/configuration.md is what the schema says", "[app][config]") {
    std::ifstream file(TRIREME_SOURCE_DIR "/docs/configuration.md");
    std::stringstream page;
    page << file.rdbuf();
    INFO("make it again with: trireme config --reference > docs/configuration.md");
    CHECK((page.str() == configuration_reference()));
}

TEST_CASE("the last --set of a key counts and values are YAML", "[app][config]") {
    const Config config =
        small({"run.steps=7", "run.steps=8", "mesh.data=auto",
               "data.train=[{path: a, weight: 2.5}, b]", "batch.micro=+3", "run.output=\"a=b\""});
    CHECK(config.run.steps == 8);
    CHECK(config.batch.micro == 3);
    CHECK(config.data.train.at(0).weight == 2.5);
    CHECK(config.data.train.at(1).path == "b");
    CHECK(config.run.output == "a=b");
}

TEST_CASE("a missing configuration file is a configuration error", "[app][config]") {
    try {
        load_config("no/such/file.yaml");
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        CHECK_THAT(error.what(), Contains("no/such/file.yaml"));
    }
}
