#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <utility>

#include "tests/model/training_support.h"

// Sharding gradients (ZeRO-2) and parameters (ZeRO-3) over the data ranks changes where numbers
// are, and the order in which micro-batches and ranks are added, but not the training.

namespace trireme::test {

namespace {

constexpr MeshShape mesh_of(int tensor, int data, int pipeline) {
    return {.tensor = tensor, .context = 1, .data = data, .pipeline = pipeline};
}

Scenario scenario_of(Family family, const MeshShape& mesh, int zero) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.mesh = mesh;
    scenario.zero = zero;
    scenario.steps = 8;
    return scenario;
}

const Curve& single_rank_curve(Family family) {
    static std::map<Family, Curve> curves;
    const auto found = curves.find(family);
    if (found != curves.end()) return found->second;
    return curves.emplace(family, train(scenario_of(family, {}, 0))).first->second;
}

void require_single_rank_curve(const Scenario& scenario) {
    INFO(scenario.name() << ", recompute " << static_cast<int>(scenario.recompute.policy)
                         << ", prefetch " << scenario.prefetch << ", overlap " << scenario.overlap);
    const Curve& expected = single_rank_curve(scenario.model.family);
    const Curve found = train(scenario);
    CHECK(largest_difference(found.losses, expected.losses) < 1.0e-5);
    CHECK(largest_difference(found.grad_norms, expected.grad_norms) < 1.0e-4);
}

// What a rank holds under each label.
using Memory = std::map<std::string, size_t>;

Memory memory_of(const Scenario& scenario) {
    Memory memory;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, 1);
        const Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        if (world.rank() != 0) return;
        for (const auto& [label, bytes] : engine.memory()) memory[label] = bytes;
    });
    return memory;
}

double share(size_t part, size_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

TEST_CASE("sharded gradients and parameters give the curve of one rank on all axes",
          "[model][zero]") {
    for (const auto& [family, zero] : {std::pair(Family::gpt2, 2), std::pair(Family::llama, 3)}) {
        Scenario scenario = scenario_of(family, mesh_of(2, 2, 2), zero);
        scenario.sequence_parallel = true;
        scenario.recompute.policy = Recompute::selective;
        require_single_rank_curve(scenario);
    }
}

TEST_CASE("sharded gradients and parameters give the curve of one rank", "[model][zero][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const int zero = GENERATE(2, 3);
    for (const std::string schedule : {"gpipe", "1f1b"}) {
        for (const MeshShape& mesh :
             {mesh_of(1, 2, 1), mesh_of(1, 4, 1), mesh_of(2, 2, 1), mesh_of(1, 2, 2)}) {
            Scenario scenario = scenario_of(family, mesh, zero);
            scenario.schedule = schedule;
            require_single_rank_curve(scenario);
        }
    }
    Scenario scenario = scenario_of(family, mesh_of(2, 2, 2), zero);
    scenario.sequence_parallel = true;
    for (const Recompute policy : {Recompute::none, Recompute::selective, Recompute::full}) {
        scenario.recompute = {policy, 0};
        require_single_rank_curve(scenario);
    }
    // Key/value heads that tensor ranks share.
    scenario = scenario_of(family, mesh_of(2, 2, 1), zero);
    scenario.model.kv_heads = 1;
    Scenario alone = scenario;
    alone.mesh = {};
    alone.zero = 0;
    CHECK(largest_difference(train(scenario).losses, train(alone).losses) < 1.0e-5);
}

TEST_CASE("sharding among half the data ranks gives the curve of one rank", "[model][zero]") {
    for (const auto& [family, zero] : {std::pair(Family::gpt2, 1), std::pair(Family::llama, 3)}) {
        Scenario scenario = scenario_of(family, mesh_of(1, 4, 1), zero);
        scenario.data_shards = 2;
        require_single_rank_curve(scenario);
    }
}

TEST_CASE("sharding among a part of the data ranks gives the curve of one rank",
          "[model][zero][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    for (const int zero : {0, 1, 2, 3}) {
        for (const int shards : {1, 2}) {
            for (const MeshShape& mesh : {mesh_of(1, 4, 1), mesh_of(1, 4, 2), mesh_of(2, 4, 1)}) {
                Scenario scenario = scenario_of(family, mesh, zero);
                scenario.data_shards = shards;
                scenario.sequence_parallel = mesh.tensor > 1;
                require_single_rank_curve(scenario);
            }
        }
    }
}

TEST_CASE("gradients of sharded buckets may travel in bf16", "[model][zero]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const int zero = GENERATE(2, 3);
    Scenario scenario = scenario_of(family, mesh_of(1, 4, 1), zero);
    scenario.gradient_wire = DType::bf16;
    INFO(scenario.name());
    const Curve& expected = single_rank_curve(family);
    const Curve found = train(scenario);
    CHECK(largest_difference(found.losses, expected.losses) < 2.0e-3);
    CHECK(largest_difference(found.grad_norms, expected.grad_norms) < 2.0e-2);
    CHECK(found.losses != expected.losses);
}

TEST_CASE("sharded training gives the same bits in each run, with and without overlap",
          "[model][zero]") {
    const int zero = GENERATE(2, 3);
    Scenario scenario = scenario_of(Family::gpt2, mesh_of(2, 2, 2), zero);
    scenario.compute = GENERATE(DType::f32, DType::bf16);
    scenario.steps = 4;
    const Curve first = train(scenario), second = train(scenario);
    CHECK(first.losses == second.losses);
    CHECK(first.grad_norms == second.grad_norms);
    scenario.overlap = false;
    CHECK(largest_difference(train(scenario).losses, first.losses) < 1.0e-5);
}

TEST_CASE("gathering parameters ahead changes no bit", "[model][zero]") {
    Scenario scenario = scenario_of(Family::llama, mesh_of(1, 2, 2), 3);
    scenario.steps = 3;
    const Recompute policy = GENERATE(Recompute::none, Recompute::full);
    scenario.recompute = {policy, 1};
    const Curve expected = train(scenario);
    for (const int prefetch : {0, 1, 5, 100}) {
        scenario.prefetch = prefetch;
        CHECK(train(scenario).losses == expected.losses);
    }
}

TEST_CASE("each rank keeps its share of sharded gradients and parameters", "[model][zero]") {
    Scenario scenario = scenario_of(GENERATE(Family::gpt2, Family::llama), mesh_of(1, 4, 1), 1);
    scenario.model.layers = 12;
    scenario.model.hidden = 96;
    scenario.compute = GENERATE(DType::f32, DType::bf16);
    Memory memory[4];
    for (const int zero : {1, 2, 3}) {
        scenario.zero = zero;
        memory[zero] = memory_of(scenario);
        const double state =
            share(memory[zero].at("optimizer state"), memory[1].at("optimizer state"));
        CHECK(state < 1.05);
    }
    const auto quarter = Approx(0.25).margin(0.0125);
    CHECK(share(memory[2].at("parameters"), memory[1].at("parameters")) == Approx(1).margin(0.05));
    CHECK(share(memory[2].at("gradients"), memory[1].at("gradients")) == quarter);
    CHECK(share(memory[3].at("parameters"), memory[1].at("parameters")) == quarter);
    CHECK(memory[3].at("gradients") == memory[2].at("gradients"));
    CHECK(memory[3].at("gradient staging") == memory[2].at("gradient staging"));

    // Two buffers for gradients of a layer's larger half, three for its parameters, and one of each
    // for a vocabulary matrix.
    const int64_t hidden = scenario.model.hidden, ffn = scenario.model.ffn_hidden;
    const int64_t heads = int64_t{scenario.model.heads} * scenario.model.head_dim;
    const int64_t kv = int64_t{scenario.model.kv_heads} * scenario.model.head_dim;
    const int64_t matrices = scenario.model.family == Family::gpt2 ? 2 : 3;
    const int64_t half = std::max(matrices * hidden * ffn, hidden * (2 * heads + 2 * kv));
    int64_t vocabulary = 264 * hidden;
    if (scenario.model.family == Family::gpt2) {
        vocabulary += hidden * scenario.model.max_sequence_length;  // the positions
    }
    const auto bytes = [](int64_t elements, DType type) {
        return static_cast<size_t>(elements) * size_of(type);
    };
    CHECK(share(memory[2].at("gradient staging"), bytes(2 * half + vocabulary, DType::f32)) ==
          Approx(1).margin(0.05));
    CHECK(share(memory[3].at("gathered parameters"),
                bytes(3 * half + vocabulary, scenario.compute)) == Approx(1).margin(0.05));
}

TEST_CASE("evaluation between steps changes nothing, and sees the same model", "[model][zero]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    std::vector<double> losses[4];
    for (const int zero : {0, 1, 2, 3}) {
        Scenario scenario = scenario_of(family, mesh_of(1, 2, 2), zero);
        run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
            const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
            Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, 1));
            Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
            TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
            std::vector<double> own;
            for (int step = 1; step <= 4; ++step) {
                const Curve curve = run_steps(engine, scenario, step, step);
                own.push_back(curve.losses.front());
                const MicroBatchSource batches = [all = &source.step(9)](int i) {
                    return (*all)[static_cast<size_t>(i)];
                };
                own.push_back(engine.evaluate(2, batches).loss_sum);
            }
            if (world.rank() == 0) losses[zero] = own;
        });
        INFO(scenario.name());
        CHECK(largest_difference(losses[zero], losses[0]) < 1.0e-5);
    }
}

}  // namespace trireme::test
