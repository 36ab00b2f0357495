#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "tests/model/training_support.h"

// Ranks that share out a micro-batch's tokens, and for attention the heads, do what one rank does.

namespace trireme::test {

namespace {

MeshShape mesh_of(int tensor, int context, int data, int pipeline) {
    return {.tensor = tensor, .context = context, .data = data, .pipeline = pipeline};
}

struct Case {
    MeshShape mesh;
    const char* schedule = "1f1b";
    int zero = 1;
    bool sequence_parallel = false;
    int64_t micro_batch = 1;
    Recompute recompute = Recompute::none;
    int pieces = 1;
    bool documents_apart = false;
    int data_shards = 0;
};

Scenario scenario_of(ModelOptions model, const Case& c) {
    Scenario scenario;
    scenario.model = std::move(model);
    scenario.mesh = c.mesh;
    scenario.schedule = c.schedule;
    scenario.zero = c.zero;
    scenario.sequence_parallel = c.sequence_parallel;
    scenario.micro_batch = c.micro_batch;
    scenario.global_batch = 12;
    scenario.recompute = {c.recompute, 0};
    scenario.pieces = c.pieces;
    scenario.documents_apart = c.documents_apart;
    scenario.data_shards = c.data_shards;
    scenario.steps = 6;
    return scenario;
}

void require_the_curve_of_one_rank(const Scenario& scenario) {
    INFO(scenario.name());
    const Curve expected = train(on_one_rank(scenario)), found = train(scenario);
    CHECK(largest_difference(found.losses, expected.losses) < 1.0e-5);
    CHECK(largest_difference(found.grad_norms, expected.grad_norms) < 1.0e-4);
}

// What an engine that evaluates says of one micro-batch a data rank.
struct Verdict {
    EvaluationResult result;
    std::vector<float> losses;  // of tokens
    std::vector<float> logits;  // [samples * T, V]
};

Verdict verdict_of(Scenario scenario) {
    const int64_t rows = scenario.global_batch * scenario.sequence;
    const int64_t vocab = scenario.model.vocab_size;
    Verdict verdict;
    verdict.logits.assign(static_cast<size_t>(rows * vocab), NAN);
    std::mutex mutex;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        EngineOptions options = engine_options_of(scenario);
        options.forward_only = true;
        Engine engine(context_of(scenario, *device, mesh), options);
        TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
        const auto& batches = source.step(1);
        const LogitRequest logits{
            scenario.global_batch, [&](const LogitRows& part) {
                const std::lock_guard lock(mutex);
                for (int64_t row = 0; row < part.rows; ++row) {
                    std::copy_n(
                        part.values.data() + row * part.stride, part.columns,
                        verdict.logits.data() + (part.first_row + row) * vocab + part.first_column);
                }
            }};
        const EvaluationResult result = engine.evaluate(
            1, [&](int i) { return batches[static_cast<size_t>(i)]; }, {}, logits);
        const std::vector<float> losses = engine.token_losses(batches[0]);
        const std::lock_guard lock(mutex);
        if (world.rank() != 0) return;
        verdict.result = result;
        verdict.losses = losses;
    });
    return verdict;
}

}  // namespace

TEST_CASE("ranks on the context axis give the curve of one rank", "[model][context]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    // Key/value heads of their own, and one that three ranks attend with.
    require_the_curve_of_one_rank(scenario_of(odd_model(family), {mesh_of(1, 2, 1, 1)}));
    require_the_curve_of_one_rank(
        scenario_of(odd_model(family), {mesh_of(2, 3, 1, 1), "1f1b", 1, true, 3}));
}

TEST_CASE("the context axis and all others together give the curve of one rank",
          "[model][context][long]") {
    const Case c = GENERATE(
        Case{mesh_of(1, 6, 1, 1), "1f1b", 2, false, 3}, Case{mesh_of(1, 2, 3, 1), "gpipe", 3},
        Case{mesh_of(2, 2, 2, 2), "interleaved", 1, true},
        Case{mesh_of(1, 2, 2, 1), "1f1b", 0, false, 3},  // one and a half sequences a rank
        // State shared out among part of a context axis and part of the next.
        Case{mesh_of(1, 2, 3, 1), "1f1b", 3, false, 1, Recompute::none, 1, false, 3},
        Case{mesh_of(1, 2, 3, 1), "1f1b", 2, false, 2, Recompute::full, 1, false, 3},
        Case{mesh_of(1, 2, 1, 2), "zb-h1", 3, false, 2, Recompute::selective},
        Case{mesh_of(1, 2, 2, 2), "zb-v", 2, false, 1, Recompute::full},
        Case{mesh_of(2, 2, 1, 1), "1f1b", 1, true, 4, Recompute::full, 4},
        Case{mesh_of(2, 2, 1, 1), "1f1b", 1, false, 4, Recompute::selective, 2},
        Case{mesh_of(1, 2, 3, 1), "1f1b", 1, false, 1, Recompute::none, 1, true, 2},
        Case{mesh_of(2, 2, 1, 2), "1f1b", 1, true, 2, Recompute::selective, 2, true});
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const bool has_heads = 6 / c.mesh.tensor % c.mesh.context == 0;
    Scenario scenario = scenario_of(has_heads ? odd_model(family) : wide_model(family), c);
    if (scenario.schedule == "interleaved" || scenario.schedule == "zb-v") {
        scenario.virtual_stages = 2;
    }
    require_the_curve_of_one_rank(scenario);
}

TEST_CASE("head norms, biases and heads shared by tensor ranks work on the context axis",
          "[model][context]") {
    const ModelOptions model = with_additions(wide_model(Family::llama));
    const Case c = GENERATE(Case{mesh_of(1, 2, 1, 1), "1f1b", 1, false, 1, Recompute::selective},
                            Case{mesh_of(1, 4, 1, 1), "1f1b", 3},
                            Case{mesh_of(4, 2, 1, 1), "1f1b", 1, true, 2, Recompute::full, 2});
    require_the_curve_of_one_rank(scenario_of(model, c));
}

TEST_CASE("a context axis in bf16 stays near one rank and gives the same bits again",
          "[model][context]") {
    // Key/value heads of their own, and shared by three ranks that sum their gradients.
    const Case c = GENERATE(Case{mesh_of(1, 2, 2, 1), "1f1b", 2}, Case{mesh_of(1, 6, 1, 1)});
    Scenario scenario = scenario_of(odd_model(Family::llama), c);
    if (c.mesh.context == 6) scenario.micro_batch = 3;
    scenario.compute = DType::bf16;
    const Curve expected = train(on_one_rank(scenario));
    const Curve found = train(scenario), again = train(scenario);
    CHECK(largest_difference(found.losses, expected.losses) < 2.0e-3);
    CHECK(found.losses == again.losses);
    CHECK(found.grad_norms == again.grad_norms);
}

TEST_CASE("evaluation on a context axis gives every token's loss and logits in their places",
          "[model][context]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const bool documents_apart = GENERATE(false, true);
    // A data rank's sequences stand one behind the other, and a context rank's part is one and a
    // half of them.
    Scenario scenario = scenario_of(odd_model(family), {mesh_of(1, 2, 2, 1)});
    scenario.documents_apart = documents_apart;
    scenario.micro_batch = 3;
    scenario.global_batch = 6;
    Scenario alone = on_one_rank(scenario);
    alone.micro_batch = 6;
    const Verdict found = verdict_of(scenario), expected = verdict_of(alone);
    CHECK(found.result.tokens == expected.result.tokens);
    CHECK(found.result.loss_sum == Approx(expected.result.loss_sum).epsilon(1e-6));
    CHECK(difference_of_largest(found.losses, expected.losses) < 1e-5);
    CHECK(difference_of_largest(found.logits, expected.logits) < 1e-5);
}

TEST_CASE("a context rank keeps its share of the activations alone", "[model][context]") {
    const auto activation_bytes = [](int context) {
        const Scenario scenario =
            scenario_of(odd_model(Family::llama), {mesh_of(1, context, 1, 1)});
        size_t bytes = 0;
        run_thread_ranks(context, [&](World& world) {
            const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
            Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
            const Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
            if (world.rank() != 0) return;
            for (const auto& [label, size] : engine.memory()) {
                if (label == "activations") bytes = size;
            }
        });
        return static_cast<double>(bytes);
    };
    // Attention's output is kept in both layouts.
    CHECK(activation_bytes(2) < 0.56 * activation_bytes(1));
}

}  // namespace trireme::test
