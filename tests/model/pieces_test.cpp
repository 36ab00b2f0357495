#include <catch2/catch.hpp>

#include <map>

#include "model/tensor_parallel.h"
#include "tests/model/training_support.h"

// A micro-batch's tokens travel between the tensor ranks in pieces: how many changes when what is
// sent, and what of the gathered tokens is kept, but not the training.

namespace trireme::test {

namespace {

Scenario scenario_of(Family family, int tensor) {
    Scenario scenario;
    scenario.model = tensor <= 2 ? odd_model(family) : wide_model(family);
    scenario.mesh = {.tensor = tensor};
    scenario.steps = 4;
    return scenario;
}

Curve require_curve_of_one_rank(const Scenario& scenario) {
    static std::map<std::pair<Family, int>, Curve> curves;
    const auto key = std::pair(scenario.model.family, scenario.model.layers);
    if (!curves.contains(key)) {
        Scenario alone = scenario_of(scenario.model.family, scenario.model.heads == 6 ? 2 : 4);
        alone.mesh = {};
        curves[key] = train(alone);
    }
    INFO(scenario.name());
    const Curve found = train(scenario);
    CHECK(largest_difference(found.losses, curves[key].losses) < 1.0e-5);
    CHECK(largest_difference(found.grad_norms, curves[key].grad_norms) < 1.0e-4);
    return found;
}

struct Memory {
    double activations = 0, scratch = 0;
};

Memory memory_of(const Scenario& scenario) {
    Memory memory;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        const Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        if (world.rank() != 0) return;
        for (const auto& [label, bytes] : engine.memory()) {
            if (label == "activations") memory.activations += static_cast<double>(bytes);
            if (label == "scratch") memory.scratch += static_cast<double>(bytes);
        }
    });
    return memory;
}

// Pieces of a sequence, and of one or several sequences, on this many tensor ranks.
void require_pieces_equal(Family family, int tensor) {
    constexpr std::pair<int, int64_t> kPiecesAndBatch[] = {{2, 1}, {2, 2}, {4, 2}, {4, 8}};
    for (const bool sequence_parallel : {false, true}) {
        for (const auto& [pieces, micro_batch] : kPiecesAndBatch) {
            Scenario scenario = scenario_of(family, tensor);
            scenario.sequence_parallel = sequence_parallel;
            scenario.pieces = pieces;
            scenario.micro_batch = micro_batch;
            require_curve_of_one_rank(scenario);
        }
    }
}

}  // namespace

TEST_CASE("tokens in pieces give the curve of one rank on two", "[model][pieces]") {
    require_pieces_equal(Family::llama, 2);
}

TEST_CASE("tokens in pieces give the curve of one rank", "[model][pieces][long]") {
    require_pieces_equal(Family::llama, 4);
    require_pieces_equal(Family::gpt2, 2);
    require_pieces_equal(Family::gpt2, 4);
}

TEST_CASE("tokens in pieces give the curve of one rank with every kind of backward",
          "[model][pieces][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    // ZeRO stage and sequence parallelism take turns.
    int i = 0;
    for (const std::string schedule : {"1f1b", "zb-h1", "zb-v"}) {
        for (const int64_t micro_batch : {1, 2}) {
            Scenario scenario = scenario_of(family, 2);
            scenario.zero = i % 4;
            scenario.mesh = {.tensor = 2, .data = 1 + scenario.zero / 2, .pipeline = 2};
            scenario.schedule = schedule;
            scenario.virtual_stages = schedule == "zb-v" ? 2 : 1;
            scenario.pieces = 2;
            scenario.micro_batch = micro_batch;
            scenario.sequence_parallel = ++i % 3 != 0;
            const Curve kept = require_curve_of_one_rank(scenario);
            for (const Recompute policy : {Recompute::selective, Recompute::full}) {
                scenario.recompute = {policy, 0};
                INFO(scenario.name() << ", policy " << static_cast<int>(policy));
                const Curve again = train(scenario);
                CHECK(again.losses == kept.losses);
                CHECK(again.grad_norms == kept.grad_norms);
            }
        }
    }
}

TEST_CASE("waiting for each exchange at once gives the same bits", "[model][pieces]") {
    Scenario scenario = scenario_of(GENERATE(Family::gpt2, Family::llama), 2);
    scenario.sequence_parallel = GENERATE(false, true);
    scenario.pieces = 4;
    const Curve together = train(scenario);
    scenario.overlap = false;
    const Curve apart = train(scenario);
    CHECK(together.losses == apart.losses);
    CHECK(together.grad_norms == apart.grad_norms);
}

TEST_CASE("sequence parallelism keeps no gathered tokens", "[model][pieces]") {
    const int tensor = GENERATE(2, 4);
    Scenario scenario = scenario_of(Family::llama, tensor);
    scenario.micro_batch = 4;
    scenario.pieces = GENERATE(1, 4);
    const Memory all = memory_of(scenario);
    scenario.sequence_parallel = true;
    const Memory own = memory_of(scenario);

    const int64_t tokens = scenario.micro_batch * scenario.sequence;
    const double whole = static_cast<double>(tokens * scenario.model.hidden * 4);
    // A layer keeps four tensors of the residual's size, two of them normalised inputs, with a
    // number a token beside each of these; the embedding one and the head two, with a number a
    // token. Nothing else depends on sequence parallelism.
    const int layers = scenario.model.layers;
    const double numbers = static_cast<double>(tokens * 4 * (2 * layers + 1));
    const double saved = ((4 * layers + 3) * whole + numbers) * (1.0 - 1.0 / tensor);
    CHECK(all.activations - own.activations == Approx(saved).epsilon(0.01));
    // A buffer for what is gathered, shared by all layers, and one part less of the residual's
    // gradient.
    CHECK(own.scratch - all.scratch == Approx(whole - whole * (1.0 - 1.0 / tensor)).epsilon(0.01));
}

TEST_CASE("the number of pieces that is taken by itself leaves efficient matmuls",
          "[model][pieces]") {
    CHECK(automatic_pieces(4096, 1, true) == 1);
    CHECK(automatic_pieces(4096, 2, true) == 4);
    CHECK(automatic_pieces(1024, 2, false) == 4);
    CHECK(automatic_pieces(1023, 2, false) == 1);
    CHECK(automatic_pieces(1022, 2, false) == 2);
    CHECK(automatic_pieces(1022, 2, true) == 1);  // 511 local tokens
    CHECK(automatic_pieces(511, 4, false) == 1);
    CHECK(automatic_pieces(768, 2, true) == 2);
}

}  // namespace trireme::test
