// Ranks as MPI processes: mpirun -n N model_mpi_tests. Trains on meshes of N ranks and compares
// with the curve of one rank, which rank 0 makes by itself. Exits with 0 when they agree.
#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

#include "core/error.h"
#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

constexpr double kLossBound = 1.0e-5;
constexpr double kNormBound = 1.0e-4;

Curve train_with_processes(World& world, const Scenario& scenario) {
    const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
    Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
    return run_steps(engine, scenario, 1, scenario.steps);
}

constexpr MeshShape mesh_of(int tensor, int pipeline, int data, int context = 1) {
    return {.tensor = tensor, .context = context, .data = data, .pipeline = pipeline};
}

std::vector<MeshShape> meshes_of(int ranks) {
    switch (ranks) {
        case 1:
            return {mesh_of(1, 1, 1)};
        case 2:
            return {mesh_of(2, 1, 1), mesh_of(1, 2, 1), mesh_of(1, 1, 2), mesh_of(1, 1, 1, 2)};
        case 4:
            return {mesh_of(2, 2, 1), mesh_of(1, 2, 2), mesh_of(2, 1, 2)};
        case 8:
            return {mesh_of(2, 2, 2), mesh_of(4, 1, 2), mesh_of(1, 4, 2), mesh_of(1, 2, 2, 2)};
        default:
            throw Error(ExitCode::config,
                        "no meshes for " + std::to_string(ranks) + " ranks: start 1, 2, 4 or 8");
    }
}

bool agrees_with_one_rank(World& world, const Scenario& scenario) {
    const Curve found = train_with_processes(world, scenario);
    if (world.rank() != 0) return true;
    const Curve expected = train(on_one_rank(scenario));
    const double loss = largest_difference(found.losses, expected.losses);
    const double norm = largest_difference(found.grad_norms, expected.grad_norms);
    const bool agrees = loss < kLossBound && norm < kNormBound;
    std::printf("%s: loss %.1e, norm %.1e%s\n", scenario.name().c_str(), loss, norm,
                agrees ? "" : ": DIFFERS");
    std::fflush(stdout);
    return agrees;
}

bool run(World& world) {
    bool all_agree = true;
    bool turn = false;
    int zero = 0;
    for (const Family family : {Family::gpt2, Family::llama}) {
        for (const MeshShape& mesh : meshes_of(world.size())) {
            turn = !turn;
            Scenario scenario;
            scenario.model = mesh.tensor > 2 ? wide_model(family) : odd_model(family);
            scenario.mesh = mesh;
            scenario.schedule = turn ? "1f1b" : "gpipe";
            scenario.zero = zero++ % 4;
            scenario.sequence_parallel = mesh.tensor > 1 && turn;
            if (!agrees_with_one_rank(world, scenario)) all_agree = false;
        }
    }
    return all_agree;
}

}  // namespace

}  // namespace trireme::test

int main() {
    using namespace trireme;
    std::unique_ptr<World> world;
    int code = 1;
    try {
        world = make_process_world();
        return test::run(*world) ? 0 : 1;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        code = static_cast<int>(error.code());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    if (world) world->abort(code);
    return code;
}
