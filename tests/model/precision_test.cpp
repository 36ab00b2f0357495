#include <catch2/catch.hpp>

#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

// A rounding to bf16's 8 bits is off by 0.4 % at most, and most of that averages out over the 128
// tokens of the loss. The norm of a step is less tame: it is at its most uneven where the loss
// falls fastest.
constexpr double kLossBound = 0.005;
constexpr double kNormBound = 0.2;

Curve curve_of(Family family, DType compute, const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.compute = compute;
    scenario.mesh = mesh;
    scenario.sequence_parallel = mesh.tensor > 1;
    scenario.optimizer.lr = 2.0e-3;
    return train(scenario);
}

}  // namespace

TEST_CASE("training in bf16 follows the curve of f32", "[model][precision]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        const Curve expected = curve_of(family, DType::f32, {});
        for (const MeshShape& mesh :
             {MeshShape{}, MeshShape{.tensor = 2, .context = 1, .data = 1, .pipeline = 2}}) {
            INFO((family == Family::gpt2 ? "gpt2, " : "llama, ") << mesh.to_string());
            const Curve found = curve_of(family, DType::bf16, mesh);
            const double loss = largest_difference(found.losses, expected.losses);
            CHECK(loss < kLossBound);
            CHECK(loss > 0.0);  // it was another precision
            CHECK(largest_difference(found.grad_norms, expected.grad_norms) < kNormBound);
            CHECK(found.losses.back() < 0.96 * found.losses.front());
        }
    }
}

}  // namespace trireme::test
