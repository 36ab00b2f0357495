#include <catch2/catch.hpp>
#include <vector>

#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

Scenario scenario_on(const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = odd_model(Family::llama);
    scenario.mesh = mesh;
    return scenario;
}

// Runs `body` once a rank, with an engine and what it is fed.
void on_ranks(const Scenario& scenario,
              const std::function<void(int rank, Engine&, TokenSource&)>& body) {
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor), 0);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
        body(world.rank(), engine, source);
    });
}

// Losses and norms of rank 0, and every rank's sums of votes, of three steps.
struct Steps {
    std::vector<double> results;
    std::vector<std::vector<double>> votes;
};

Steps run_steps_with(const Scenario& scenario, const std::function<double(int, int)>& vote) {
    Steps steps;
    steps.votes.resize(static_cast<size_t>(scenario.mesh.ranks()));
    on_ranks(scenario, [&](int rank, Engine& engine, TokenSource& source) {
        for (int step = 1; step <= 3; ++step) {
            const StepResult result = engine.step(
                step, 1e-3,
                [all = &source.step(step)](int i) { return (*all)[static_cast<size_t>(i)]; },
                {.vote = [&] { return vote(rank, step); }});
            steps.votes[static_cast<size_t>(rank)].push_back(result.votes);
            if (rank != 0) continue;
            steps.results.push_back(result.loss);
            steps.results.push_back(result.grad_norm);
        }
    });
    return steps;
}

}  // namespace

TEST_CASE("votes of a step are added up over all ranks, and change nothing else", "[model]") {
    const Scenario scenario = scenario_on({.tensor = 2, .context = 1, .data = 1, .pipeline = 2});
    const Steps voted = run_steps_with(scenario, [](int rank, int step) {
        return step == 2 || (step == 3 && rank == 3) ? 1.0 : 0.0;
    });
    const Steps silent = run_steps_with(scenario, [](int, int) { return 0.0; });
    for (const auto& votes : voted.votes) CHECK(votes == std::vector<double>{0, 4, 1});
    for (const auto& votes : silent.votes) CHECK(votes == std::vector<double>{0, 0, 0});
    CHECK(voted.results == silent.results);
}

TEST_CASE("an evaluation ends early where all ranks say so", "[model]") {
    const Scenario scenario = scenario_on({.tensor = 1, .context = 1, .data = 1, .pipeline = 2});
    EvaluationResult whole, part;
    on_ranks(scenario, [&](int rank, Engine& engine, TokenSource& source) {
        const auto batches = [all = &source.step(1)](int) { return (*all)[0]; };
        const EvaluationResult three = engine.evaluate(3, batches);
        const EvaluationResult two =
            engine.evaluate(3, batches, [](int micro_batch) { return micro_batch == 2; });
        if (rank != 0) return;
        whole = three;
        part = two;
    });
    CHECK(whole.is_complete);
    CHECK_FALSE(part.is_complete);
    CHECK(whole.tokens > 0);
    CHECK(part.tokens == whole.tokens / 3 * 2);
}

}  // namespace trireme::test
