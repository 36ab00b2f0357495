#include "app/memory_plan.h"

#include <catch2/catch.hpp>
#include <mutex>
#include <nlohmann/json.hpp>

#include "app/model_checkpoint.h"
#include "app/rank_setup.h"
#include "parallel/checkpoint_snapshot.h"
#include "tests/app/config_support.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

// Of each rank of a run that really takes the memory, ranks as threads.
struct Held {
    int stage = 0;
    MemoryPlan::Labels bytes;
    uint64_t saved_bytes = 0;
};

std::vector<Held> held_by_ranks(const Config& config) {
    std::vector<Held> held(static_cast<size_t>(config.mesh.ranks()));
    run_thread_ranks(config.mesh.ranks(), [&](World& world) {
        RankSetup setup(world, config, EngineUse::train, config.batch.micro,
                        config.data.sequence_length);
        held[static_cast<size_t>(world.rank())] = {
            setup.mesh().at().pipeline, setup.device().held_bytes(),
            CheckpointSnapshot::bytes_of(checkpoint_pieces(setup.engine()))};
    });
    return held;
}

}  // namespace

TEST_CASE("every process holds, label by label, what was planned for its stage", "[app][plan]") {
    const Sets sets = GENERATE(
        Sets{"mesh.data=1"}, Sets{"mesh.data=1", "precision.compute=bf16"},
        Sets{"mesh.data=1", "model.family=gpt2", "model.tie_embeddings=true"},
        Sets{"mesh.tensor=2", "mesh.data=1", "recompute=selective"},
        Sets{"mesh.tensor=2", "mesh.data=2", "mesh.pipeline=2", "precision.compute=bf16"},
        Sets{"mesh.tensor=2", "mesh.data=2", "mesh.pipeline=2", "data_parallel.zero=0",
             "tensor_parallel.sequence_parallel=false", "model.family=gpt2"},
        Sets{"mesh.data=3", "data_parallel.zero=3", "precision.compute=bf16", "recompute=full"},
        Sets{"mesh.data=2", "mesh.pipeline=2", "data_parallel.zero=2", "pipeline.schedule=zb-h1",
             "data_parallel.gradient_wire=bf16"},
        Sets{"mesh.data=4", "batch.micro=2", "data_parallel.shards=2", "data_parallel.zero=1"},
        Sets{"mesh.context=2", "mesh.data=2", "batch.micro=2", "data_parallel.shards=2"},
        Sets{"mesh.tensor=2", "mesh.context=3", "mesh.data=1", "batch.micro=2",
             "recompute=selective", "data.keep_documents_apart=true"},
        Sets{"mesh.pipeline=2", "pipeline.schedule=zb-v", "mesh.data=1",
             "model.tie_embeddings=true"},
        Sets{"mesh.pipeline=5", "mesh.data=1", "pipeline.schedule=gpipe"},
        Sets{"mesh.pipeline=2", "mesh.data=2", "pipeline.schedule=interleaved",
             "pipeline.virtual_stages=2", "batch.micro=3", "data.keep_documents_apart=true"});
    Config config = small(sets);
    const MeshShape& mesh = config.mesh;
    check_world(config, mesh.ranks());
    CAPTURE(sets);
    const MemoryPlan plan = plan_memory(config);
    REQUIRE(plan.stages.size() == static_cast<size_t>(mesh.pipeline));
    uint64_t saved_most = 0, saved = 0;
    for (const Held& held : held_by_ranks(config)) {
        CHECK(held.bytes == plan.stages[static_cast<size_t>(held.stage)]);
        saved_most = std::max(saved_most, held.saved_bytes);
        saved += held.saved_bytes;
    }
    CHECK(plan.checkpoint_bytes == saved);
    config.checkpoint.interval = 1;
    config.run.steps = 2;
    config.checkpoint.async = true;
    // Ranks that save a share of what all hold differ by its rounding, which shows in a model this
    // small.
    CHECK(static_cast<double>(plan_memory(config).checkpoint_copy_bytes) ==
          Approx(static_cast<double>(saved_most)).epsilon(0.02));
    config.checkpoint.async = false;
    CHECK(plan_memory(config).checkpoint_copy_bytes == 0);
}

TEST_CASE("trireme plan tells memory and schedule of a run that no machine here could hold",
          "[app][plan][process]") {
    const std::string config = std::string(TRIREME_SOURCE_DIR) + "/configs/llama-405b.yaml";
    const TemporaryFolder folder;
    const Outcome planned =
        trireme_in(folder.path(), {"plan", config, "--world", "16384", "--json"});
    INFO(planned.error);
    REQUIRE(planned.code == 0);
    const auto json = nlohmann::json::parse(planned.out);
    CHECK(json.at("parameters") == 405853388800);
    CHECK(json.at("processes") == 16384);
    REQUIRE(json.at("memory").size() == json.at("mesh").at("pipeline"));
    uint64_t parameters = 0;
    for (const auto& stage : json.at("memory")) {
        uint64_t total = 0;
        for (const auto& [label, bytes] : stage.at("bytes").items()) total += bytes.get<uint64_t>();
        CHECK(stage.at("total_bytes") == total);
        parameters += stage.at("bytes").at("parameters").get<uint64_t>();
    }
    // bf16; a little more for what tensor ranks each hold whole, and padding.
    const double whole = 2.0 * 405853388800 / json.at("mesh").at("tensor").get<double>();
    CHECK(static_cast<double>(parameters) >= whole);
    CHECK(static_cast<double>(parameters) < 1.001 * whole);
    CHECK(json.at("schedule").at("stages") == json.at("mesh").at("pipeline"));

    const Outcome text = trireme_in(folder.path(), {"plan", config, "--set", "mesh.pipeline=2"});
    CHECK(text.code == 0);
    CHECK_THAT(text.out, Catch::Contains("405853388800 parameters in bf16 on tensor 8 x data 1 x "
                                         "pipeline 2: 16 processes"));
    CHECK_THAT(text.out, Catch::Contains("stage 1 "));
}

TEST_CASE("a plan names the keys that would make the largest process hold less",
          "[app][plan][process]") {
    const std::string config = std::string(TRIREME_SOURCE_DIR) + "/configs/gpt2-124m.yaml";
    const TemporaryFolder folder;
    const auto plan = [&](const Arguments& more) {
        Arguments command{"plan", config, "--json", "--set", "mesh.data=2"};
        command.insert(command.end(), more.begin(), more.end());
        const Outcome planned = trireme_in(folder.path(), command);
        REQUIRE(planned.code == 0);
        return nlohmann::json::parse(planned.out);
    };
    const auto json = plan({"--world", "2"});
    std::vector<std::string> sets;
    for (const auto& change : json.at("changes")) {
        const std::string set = change.at("set");
        sets.push_back(set);
        CHECK(change.at("largest_bytes") < json.at("largest_bytes"));
        CAPTURE(set);
        CHECK(plan({"--set", set}).at("largest_bytes") == change.at("largest_bytes"));
    }
    // As many processes as there are leave none for a larger mesh beside two data ranks.
    CHECK(sets == std::vector<std::string>{"data_parallel.zero=2", "data_parallel.zero=3",
                                           "recompute=selective", "batch.micro=8",
                                           "recompute=full"});
}

TEST_CASE("a run on GPUs is planned where there is none", "[app][plan][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run.yaml", tiny_run(3));
    const Outcome planned =
        trireme_in(folder.path(), {"plan", "run.yaml", "--set", "device.backend=cuda"});
    INFO(planned.error);
    CHECK(planned.code == 0);
}

TEST_CASE("a plan is refused for a mesh that the processes do not make", "[app][plan][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run.yaml", tiny_run(3));
    const Outcome planned =
        trireme_in(folder.path(), {"plan", "run.yaml", "--world", "6", "--set", "mesh.tensor=4"});
    CHECK(planned.code == 78);
    CHECK_THAT(planned.error, Catch::Contains("mesh"));
}

}  // namespace trireme::test
