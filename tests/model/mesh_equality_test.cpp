#include <catch2/catch.hpp>

#include <map>
#include <set>
#include <tuple>

#include "tests/model/training_support.h"

// The result does not depend on the mesh: 20 steps on every factorization of 1, 2, 4 and 8 ranks
// against one rank. Odd sizes and dropout throughout.

namespace trireme::test {

namespace {

constexpr double kLossBound = 1.0e-5;
constexpr double kNormBound = 1.0e-4;

std::vector<MeshShape> factorizations(int ranks) {
    std::vector<MeshShape> shapes;
    for (int tensor = 1; tensor <= ranks; ++tensor) {
        for (int pipeline = 1; tensor * pipeline <= ranks; ++pipeline) {
            if (ranks % (tensor * pipeline) != 0) continue;
            shapes.push_back({.tensor = tensor,
                              .context = 1,
                              .data = ranks / tensor / pipeline,
                              .pipeline = pipeline});
        }
    }
    return shapes;
}

ModelOptions model_for(Family family, const MeshShape& mesh) {
    return mesh.tensor <= 2 && mesh.pipeline <= 4 ? odd_model(family) : wide_model(family);
}

class SingleRankCurves {
public:
    const Curve& of(const Scenario& scenario) {
        const auto key =
            std::tuple(scenario.model.family, scenario.model.layers, scenario.model.qk_norm);
        const auto found = curves_.find(key);
        if (found != curves_.end()) return found->second;
        return curves_.emplace(key, train(on_one_rank(scenario))).first->second;
    }

private:
    std::map<std::tuple<Family, int, bool>, Curve> curves_;
};

void require_equal(const Scenario& scenario, SingleRankCurves& single) {
    INFO(scenario.name());
    const Curve& expected = single.of(scenario);
    const Curve found = train(scenario);
    CHECK(largest_difference(found.losses, expected.losses) < kLossBound);
    CHECK(largest_difference(found.grad_norms, expected.grad_norms) < kNormBound);
}

Scenario scenario_of(Family family, const MeshShape& mesh, const std::string& schedule, int zero,
                     bool sequence_parallel) {
    Scenario scenario;
    scenario.model = model_for(family, mesh);
    scenario.mesh = mesh;
    scenario.schedule = schedule;
    scenario.zero = zero;
    scenario.sequence_parallel = sequence_parallel;
    return scenario;
}

// Meshes of so many ranks for which schedule, ZeRO stage and sequence parallelism take turns.
void require_covering_subset(const std::set<int>& ranks_taken) {
    SingleRankCurves single;
    int i = 0;
    for (const Family family : {Family::gpt2, Family::llama}) {
        for (const int ranks : {2, 4, 8}) {
            for (const MeshShape& mesh : factorizations(ranks)) {
                ++i;
                if (!ranks_taken.contains(ranks)) continue;
                require_equal(scenario_of(family, mesh, i % 2 ? "1f1b" : "gpipe", (i / 2) % 4,
                                          mesh.tensor > 1 && (i / 3) % 2 == 0),
                              single);
            }
        }
    }
}

}  // namespace

TEST_CASE("a single rank learns the pattern", "[model][mesh]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        const Curve curve = train(scenario_of(family, {}, "1f1b", 0, false));
        CHECK(curve.losses.front() > 5.0);
        CHECK(curve.losses.back() < 0.98 * curve.losses.front());
    }
}

TEST_CASE("two ranks on any axis of the mesh give the curve of one rank", "[model][mesh]") {
    require_covering_subset({2});
}

TEST_CASE("a covering subset of the meshes gives the curve of one rank", "[model][mesh][long]") {
    require_covering_subset({4, 8});
}

TEST_CASE("biases, head norms and stretched RoPE give the curve of one rank on a mesh",
          "[model][mesh]") {
    SingleRankCurves single;
    struct Case {
        MeshShape mesh;
        const char* schedule;
        int zero;
        bool sequence_parallel;
        Recompute recompute = Recompute::none;
        int pieces = 1;
    };
    for (const Case& c : {Case{{.tensor = 2}, "1f1b", 0, false, Recompute::selective, 2},
                          Case{{.tensor = 2, .data = 2}, "1f1b", 1, true, Recompute::full, 4},
                          Case{{.tensor = 2, .data = 2, .pipeline = 2}, "zb-h1", 2, true},
                          Case{{.tensor = 8}, "1f1b", 1, false},
                          Case{{.tensor = 4, .data = 2}, "gpipe", 3, true, Recompute::selective},
                          Case{{.data = 2, .pipeline = 2}, "zb-h1", 3, false, Recompute::full},
                          Case{{.data = 4}, "1f1b", 2, false}}) {
        Scenario scenario =
            scenario_of(Family::llama, c.mesh, c.schedule, c.zero, c.sequence_parallel);
        scenario.model = with_additions(scenario.model);
        scenario.recompute = {c.recompute, 0};
        scenario.pieces = c.pieces;
        // AdamW makes whole steps of gradients that are all rounding, and this model has some.
        scenario.steps = 6;
        require_equal(scenario, single);
    }
}

TEST_CASE("every mesh, schedule, ZeRO stage and sequence parallelism gives the curve of one rank",
          "[model][mesh][slow]") {
    SingleRankCurves single;
    for (const Family family : {Family::gpt2, Family::llama}) {
        for (const int ranks : {1, 2, 4, 8}) {
            for (const MeshShape& mesh : factorizations(ranks)) {
                for (const std::string schedule : {"gpipe", "1f1b"}) {
                    for (const int zero : {0, 1, 2, 3}) {
                        for (const bool sequence_parallel : {false, true}) {
                            require_equal(
                                scenario_of(family, mesh, schedule, zero, sequence_parallel),
                                single);
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE("the size of the micro-batch does not change the curve", "[model][mesh]") {
    Scenario scenario = scenario_of(Family::llama, {}, "1f1b", 1, false);
    const Curve one = train(scenario);
    scenario.micro_batch = 4;
    const Curve four = train(scenario);
    CHECK(largest_difference(four.losses, one.losses) < kLossBound);
    CHECK(largest_difference(four.grad_norms, one.grad_norms) < kNormBound);
}

TEST_CASE("the same mesh gives the same bits", "[model][mesh]") {
    Scenario scenario = scenario_of(
        Family::gpt2, {.tensor = 2, .context = 1, .data = 2, .pipeline = 2}, "1f1b", 1, true);
    scenario.steps = 5;
    const Curve first = train(scenario), second = train(scenario);
    CHECK(first.losses == second.losses);
    CHECK(first.grad_norms == second.grad_norms);
}

}  // namespace trireme::test
