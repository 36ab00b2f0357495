#include "app/config.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

TEST_CASE("the zb-v schedule has its two chunks a stage also where one is asked for",
          "[app][config]") {
    for (const Sets& sets :
         {Sets{}, Sets{"pipeline.virtual_stages=1"}, Sets{"pipeline.virtual_stages=2"}}) {
        Sets all = sets;
        all.insert(all.end(), {"mesh.pipeline=2", "pipeline.schedule=zb-v"});
        CHECK(small(all).pipeline.virtual_stages == 2);
    }
    CHECK_THAT(refusal_of_set({"mesh.pipeline=2", "model.layers=6", "pipeline.schedule=zb-v",
                               "pipeline.virtual_stages=3"},
                              2),
               Contains("set virtual_stages to 2"));
}

TEST_CASE("impossible combinations are refused with the numbers that clash", "[app][config]") {
    struct Case {
        Sets sets;
        std::string key, text;
    };
    const std::vector<Case> cases = {
        {{"model.heads=5", "model.kv_heads=5"},
         "model.heads",
         "found 5, expected a divisor of model.hidden 48"},
        {{"model.kv_heads=4"}, "model.kv_heads", "found 4, expected a divisor of model.heads 6"},
        {{"model.head_dim=7"}, "model.head_dim", "found 7, expected an even width"},
        {{"mesh.tensor=4", "model.kv_heads=6", "model.ffn_hidden=128"},
         "model.heads",
         "found 6, expected a multiple of mesh.tensor 4"},
        {{"model.heads=12", "model.kv_heads=4", "mesh.tensor=6", "model.ffn_hidden=132"},
         "model.kv_heads",
         "found 4, expected a multiple or a divisor of mesh.tensor 6"},
        {{"mesh.tensor=2", "model.ffn_hidden=129"},
         "model.ffn_hidden",
         "found 129, expected a multiple of mesh.tensor 2; the nearest are 128 or 130"},
        {{"mesh.pipeline=6"}, "mesh.pipeline", "found 6, expected at most model.layers 5"},
        {{"mesh.context=2", "batch.micro=1", "batch.global=12"},
         "mesh.context",
         "found 2, expected a divisor of batch.micro 1 * data.sequence_length 33 = 33 tokens"},
        {{"mesh.context=4", "data.sequence_length=32"},
         "mesh.context",
         "found 4, expected a divisor of model.heads 6 / mesh.tensor 1 = 6"},
        {{"mesh.context=3", "data.sequence_length=30"},
         "mesh.context",
         "found 3, expected a multiple or a divisor of the 2 key/value heads of a tensor rank "
         "(model.kv_heads 2, mesh.tensor 1)"},
        {{"mesh.tensor=2", "mesh.context=3", "data.sequence_length=31", "batch.micro=3",
          "batch.global=12", "tensor_parallel.sequence_parallel=true"},
         "tensor_parallel.sequence_parallel",
         "found true, expected batch.micro 3 * data.sequence_length 31 / mesh.context 3 = 31 "
         "tokens to be a multiple of mesh.tensor 2"},
        {{"mesh.tensor=2", "mesh.context=3", "batch.micro=1", "batch.global=12",
          "data.sequence_length=30", "tensor_parallel.pieces=4"},
         "tensor_parallel.pieces",
         "found 4, expected a divisor of the 10 tokens of a micro-batch that a process holds"},
        {{"data_parallel.shards=4", "mesh.data=3", "mesh.context=2", "batch.global=12",
          "data.sequence_length=32"},
         "data_parallel.shards",
         "found 4, expected a divisor of mesh.data 3 * mesh.context 2, or 0"},
        {{"data.sequence_length=34"},
         "data.sequence_length",
         "found 34, expected at most model.max_sequence_length 33"},
        {{"model.vocab_size=256"}, "model.vocab_size", "found 256, expected at least 257"},
        {{"batch.global=7", "batch.micro=2"},
         "batch.global",
         "found 7, expected a multiple of batch.micro 2; the nearest are 6 or 8"},
        {{"evaluation.interval=5"}, "data.valid", "found no dataset"},
        {{"mesh.data=1", "batch.global=10000000", "batch.micro=1", "evaluation.batches=1000"},
         "evaluation.batches",
         "found 1000, expected at most 214"},
        {{"evaluation.interval=5", "data.split=98"}, "data.valid", "found no dataset"},
        {{"data.split=9,1", "data.valid=[{path: v}]"}, "data.split", "found a second weight"},
        {{"mesh.pipeline=2", "pipeline.schedule=interleaved", "pipeline.virtual_stages=3"},
         "mesh.pipeline",
         "found 2 * pipeline.virtual_stages 3, expected at most model.layers 5"},
        {{"pipeline.schedule=zb-h3"}, "pipeline.schedule", "found zb-h3, expected gpipe, 1f1b"},
        {{"data_parallel.zero=4"}, "data_parallel.zero", "found 4, expected"},
        {{"data_parallel.shards=2", "mesh.data=3", "batch.global=12"},
         "data_parallel.shards",
         "found 2, expected a divisor of mesh.data 3, or 0"},
        {{"precision.compute=fp8"}, "precision.compute", "found fp8, which is not built in yet"},
        {{"recompute=some"}, "recompute", "found some, expected none, selective or full"},
        {{"schedule.min_lr=1"}, "schedule.min_lr", "found 1, expected at most optimizer.lr"},
        {{"schedule.warmup_steps=21"},
         "schedule.warmup_steps",
         "found 21, expected at most run.steps 20"},
        {{"schedule.name=wsd", "schedule.warmup_steps=10", "schedule.decay_steps=11"},
         "schedule.decay_steps",
         "found 11, expected at most run.steps 20"},
        {{"tensor_parallel.sequence_parallel=true", "mesh.tensor=2", "batch.micro=1"},
         "tensor_parallel.sequence_parallel",
         "found true, expected batch.micro 1 * data.sequence_length 33 = 33 tokens"},
        {{"tensor_parallel.pieces=17"}, "tensor_parallel.pieces", "found 17, expected"},
        {{"tensor_parallel.pieces=5", "mesh.tensor=2", "batch.micro=4"},
         "tensor_parallel.pieces",
         "found 5, expected a divisor of the 132 tokens of a micro-batch"},
        {{"tensor_parallel.pieces=4", "tensor_parallel.sequence_parallel=true", "mesh.tensor=2",
          "batch.micro=4"},
         "tensor_parallel.pieces",
         "found 4, expected a divisor of the 66 tokens of a micro-batch that a process holds"},
        {{"mesh.data=5"},
         "batch.global",
         "found 24, expected a multiple of batch.micro 4 * mesh.data 5 = 20; the nearest are 20 "
         "or 40"},
        {{"mesh.data=65536", "mesh.tensor=65536", "model.heads=65536", "model.kv_heads=1",
          "model.head_dim=2", "model.ffn_hidden=65536", "batch.global=65536", "batch.micro=1"},
         "mesh.tensor",
         "found tensor 65536 * pipeline 1 * context 1 * data 65536 processes, expected at most "
         "1048576 in all"},
    };
    for (const Case& c : cases) {
        const std::string message = refusal_of_set(c.sets);
        INFO(c.sets.front() << " -> " << message);
        CHECK_THAT(message, Contains(c.key + ": " + c.text));
        CHECK_THAT(message, !Contains("problems"));
    }
    CHECK(refusal_of_set({"model.heads=5", "model.kv_heads=5", "model.head_dim=8"}) == "");
    CHECK(refusal_of_set({"model.head_dim=7", "model.family=gpt2"}) == "");
    CHECK(refusal_of_set({"mesh.tensor=6", "model.ffn_hidden=132"}) == "");
}

TEST_CASE("head norms, biases and stretched RoPE are for llama, and their numbers must fit",
          "[app][config]") {
    const auto has = [](const Sets& sets, const std::string& text) {
        const std::string found = refusal_of_set(sets);
        INFO(found);
        CHECK(found.find(text) != std::string::npos);
    };
    has({"model.family=gpt2", "model.qk_norm=true"}, "model.qk_norm: found true, expected false");
    has({"model.family=gpt2", "model.qkv_bias=true"}, "model.qkv_bias: found true, expected false");
    has({"model.family=gpt2", "model.rope_scaling=linear"}, "model.rope_scaling: found another");
    has({"model.rope_scaling_factor=8"}, "expected 1 because model.rope_scaling is none");
    has({"model.rope_scaling=llama3", "model.rope_scaling_low_freq_factor=4"},
        "expected more than model.rope_scaling_low_freq_factor 4");
    has({"model.qk_norm=true", "model.head_dim=4098"}, "expected at most 4096 with model.qk_norm");
}

TEST_CASE("the mesh must multiply to the number of processes", "[app][config]") {
    CHECK_THAT(refusal_of_set({"mesh.tensor=2", "mesh.pipeline=2", "mesh.data=1"}, 6),
               Contains("mesh: found tensor 2 * pipeline 2 * context 1 * data 1 = 4 and 6 "
                        "processes, expected the same number; start it with mpirun -n 4"));
    CHECK_THAT(refusal_of_set({"mesh.tensor=2", "mesh.pipeline=2"}, 6),
               Contains("mesh: found tensor 2 * pipeline 2 * context 1 = 4 and 6 processes, "
                        "expected a number of processes that is a multiple of 4"));
    CHECK_THAT(refusal_of_set({}, 5),
               Contains("batch.global: found 24") && Contains("batch.micro 4 * mesh.data 5 = 20"));
    CHECK_THAT(refusal_of_set({"batch.micro=4194304"}, 1024),
               Contains("batch.global: found 24, expected a multiple of batch.micro 4194304"));

    Config config = small({"mesh.tensor=2", "mesh.pipeline=2"});
    check_world(config, 12);
    CHECK(config.mesh == MeshShape{.tensor = 2, .context = 1, .data = 3, .pipeline = 2});
    CHECK(config.micro_batches() == 2);
    CHECK_THROWS_AS(check_world(config, 8), Error);
}
