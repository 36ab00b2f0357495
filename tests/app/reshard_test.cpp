#include <catch2/catch.hpp>

#include "app/model_checkpoint.h"
#include "tests/app/resume_support.h"
#include "tests/core/temporary_folder.h"

// Among all pairs of meshes and ZeRO stages: A saves, B loads and saves, A loads and saves again.

namespace trireme::test {

namespace {

struct Layout {
    MeshShape mesh;
    int zero = 1;
    int data_shards = 0;
};

// For 5 layers, 6 heads with 2 key/value heads, vocabulary 257.
std::vector<Layout> layouts() {
    return {{mesh_of(1, 1, 1), 0},    {mesh_of(2, 1, 1), 1}, {mesh_of(1, 5, 1), 1},
            {mesh_of(1, 1, 3), 3},    {mesh_of(2, 2, 2), 2}, {mesh_of(1, 2, 3), 1},
            {mesh_of(2, 1, 3), 3},    {mesh_of(2, 5, 1), 2}, {mesh_of(1, 4, 2), 0},
            {mesh_of(1, 2, 4), 3, 2}, {mesh_of(2, 3, 1), 1}, {mesh_of(2, 1, 1, 3), 2},
            {mesh_of(1, 2, 2, 2), 1}};
}

void pass_on(Scenario scenario, const Layout& layout, const std::string& from,
             const std::string& to) {
    scenario.mesh = layout.mesh;
    scenario.zero = layout.zero;
    scenario.data_shards = layout.data_shards;
    scenario.sequence_parallel = layout.mesh.tensor > 1 && layout.zero >= 1;
    scenario.global_batch = 24;
    scenario.micro_batch = layout.mesh.context;  // whose tokens the context ranks share
    run_stretch(scenario, {.first_step = 4, .last_step = 3, .load = newest(from), .save = to});
}

void check_pairs(Family family, DType compute, size_t stride) {
    Scenario scenario = scenario_of(family, mesh_of(1, 1, 1), 1, compute);
    const TemporaryFolder original;
    run_stretch(scenario, {.last_step = 3, .save = original.path()});
    const std::vector<Layout> all = layouts();
    for (size_t a = 0; a < all.size(); ++a) {
        const TemporaryFolder at_a;
        pass_on(scenario, all[a], original.path(), at_a.path());
        require_same_contents(at_a.path(), original.path());
        for (size_t b = a % stride; b < all.size(); b += stride) {
            INFO(all[a].mesh.to_string() << " zero " << all[a].zero << " -> "
                                         << all[b].mesh.to_string() << " zero " << all[b].zero);
            const TemporaryFolder at_b, back;
            pass_on(scenario, all[b], at_a.path(), at_b.path());
            pass_on(scenario, all[a], at_b.path(), back.path());
            require_same_contents(at_b.path(), original.path());
            require_same_contents(back.path(), original.path());
        }
    }
}

}  // namespace

TEST_CASE("some pairs of meshes hand parameters and moments to each other and back, bit for bit",
          "[app][resume][long]") {
    check_pairs(Family::llama, DType::f32, 5);
}

TEST_CASE("all pairs of meshes hand parameters and moments to each other and back, bit for bit",
          "[app][resume][slow][reshard]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    check_pairs(family, DType::f32, 1);
    check_pairs(family, DType::bf16, 1);
}

}  // namespace trireme::test
