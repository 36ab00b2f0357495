#include <catch2/catch.hpp>

#include "tests/model/training_support.h"

// Whole training steps with every pipeline schedule, against one rank.

namespace trireme::test {

namespace {

struct NamedSchedule {
    const char* name;
    int chunks;
};

constexpr NamedSchedule kSchedules[] = {{"gpipe", 1}, {"1f1b", 1}, {"interleaved", 2}, {"zb-h1", 1},
                                        {"zb-h2", 1}, {"zb-v", 2}, {"zb-auto", 1}};

Scenario scenario_of(Family family, const MeshShape& mesh, const NamedSchedule& schedule) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.model.layers = 9;
    scenario.mesh = mesh;
    scenario.schedule = schedule.name;
    scenario.virtual_stages = schedule.chunks;
    scenario.global_batch = 8;
    scenario.steps = 4;
    return scenario;
}

void require_equal(const Scenario& scenario, const Curve& want) {
    const Curve curve = train(scenario);
    const double loss = largest_difference(curve.losses, want.losses);
    const double norm = largest_difference(curve.grad_norms, want.grad_norms);
    INFO(scenario.name() << ", recompute " << static_cast<int>(scenario.recompute.policy)
                         << ": loss " << loss << ", norm " << norm);
    REQUIRE(loss <= 1e-5);
    REQUIRE(norm <= 1e-4);
}

Curve one_rank(Family family) {
    return train(scenario_of(family, {}, {"1f1b", 1}));
}

}  // namespace

TEST_CASE("every schedule gives the curve of one rank on four", "[model][schedules]") {
    const Curve want = one_rank(Family::llama);
    for (const NamedSchedule& schedule : kSchedules) {
        require_equal(scenario_of(Family::llama, {.data = 2, .pipeline = 2}, schedule), want);
    }
}

TEST_CASE("every schedule gives the curve of one rank", "[model][schedules][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const Curve want = one_rank(family);
    int i = 0;
    for (const NamedSchedule& schedule : kSchedules) {
        for (const MeshShape& mesh : {MeshShape{.pipeline = 2}, MeshShape{.pipeline = 4},
                                      MeshShape{.data = 2, .pipeline = 2},
                                      MeshShape{.tensor = 2, .data = 2, .pipeline = 2}}) {
            // ZeRO stage, recomputation and sequence parallelism take turns.
            Scenario scenario = scenario_of(family, mesh, schedule);
            scenario.zero = i % 4;
            scenario.recompute.policy = static_cast<Recompute>(i / 4 % 3);
            scenario.sequence_parallel = mesh.tensor > 1 && i % 2 == 0;
            ++i;
            require_equal(scenario, want);
        }
    }
}

TEST_CASE("every schedule, ZeRO stage and recomputation gives the curve of one rank",
          "[model][schedules][slow]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const Curve want = one_rank(family);
    for (const NamedSchedule& schedule : kSchedules) {
        for (const MeshShape& mesh :
             {MeshShape{.data = 2}, MeshShape{.pipeline = 2}, MeshShape{.pipeline = 4},
              MeshShape{.data = 2, .pipeline = 2}, MeshShape{.data = 2, .pipeline = 4},
              MeshShape{.tensor = 2, .data = 2, .pipeline = 2}}) {
            for (int zero = 0; zero <= 3; ++zero) {
                for (const Recompute policy :
                     {Recompute::none, Recompute::selective, Recompute::full}) {
                    Scenario scenario = scenario_of(family, mesh, schedule);
                    scenario.zero = zero;
                    scenario.recompute.policy = policy;
                    require_equal(scenario, want);
                }
            }
        }
    }
}

TEST_CASE("1f1b and zb-h1, which add gradients in the same order, give the same bits",
          "[model][schedules]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const MeshShape mesh{.pipeline = 4};
    const Curve fused = train(scenario_of(family, mesh, {"1f1b", 1}));
    const Curve split = train(scenario_of(family, mesh, {"zb-h1", 1}));
    CHECK(fused.losses == split.losses);
    CHECK(fused.grad_norms == split.grad_norms);
}

}  // namespace trireme::test
