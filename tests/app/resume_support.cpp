#include "tests/app/resume_support.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "app/model_checkpoint.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_saver.h"

namespace trireme::test {

Curve run_stretch(const Scenario& scenario, const Stretch& stretch) {
    Curve curve;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor),
                  scenario.data_shards);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        if (!stretch.load.empty()) {
            CheckpointReader reader(stretch.load);
            read_model(engine, reader);
            publish_model(engine);
        }
        Curve own = run_steps(engine, scenario, stretch.first_step, stretch.last_step);
        if (world.rank() == 0) curve = std::move(own);
        if (stretch.save.empty()) return;
        CheckpointState state;
        state.step = stretch.last_step;
        state.mesh = scenario.mesh;
        CheckpointSaver saver(world, *device, {.folder = stretch.save, .in_background = false});
        saver.begin(state, checkpoint_pieces(engine));
        if (const auto report = saver.wait(); report->error) throw *report->error;
    });
    return curve;
}

std::string newest(const std::string& folder) {
    return resolve_checkpoint(folder);
}

namespace {

// Every logical tensor, in whichever pieces it lies in the files.
std::map<std::string, std::vector<float>> contents(const std::string& folder) {
    CheckpointReader reader(newest(folder));
    std::map<std::string, std::vector<float>> tensors;
    for (const std::string& name : reader.names()) {
        const ManifestTensor& tensor = reader.tensor(name);
        std::vector<float>& values = tensors[name];
        values.resize(tensor.elements());
        reader.read(name, {{0, 0}, tensor.global}, DType::f32, values.data());
    }
    return tensors;
}

}  // namespace

void require_same_contents(const std::string& folder, const std::string& expected_folder) {
    const auto found = contents(folder), expected = contents(expected_folder);
    REQUIRE(found.size() == expected.size());
    size_t parameters = 0, states = 0;
    for (const auto& [name, values] : expected) {
        INFO(name);
        const auto same = found.find(name);
        REQUIRE(same != found.end());
        REQUIRE(same->second.size() == values.size());
        CHECK(std::memcmp(same->second.data(), values.data(), values.size() * sizeof(float)) == 0);
        (name.starts_with("parameter/") ? parameters : states) += 1;
    }
    CHECK(parameters > 0);
    CHECK(states == 2 * parameters);
}

Scenario scenario_of(Family family, const MeshShape& mesh, int zero, DType compute) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.mesh = mesh;
    scenario.zero = zero;
    scenario.sequence_parallel = mesh.tensor > 1 && zero >= 1;
    scenario.compute = compute;
    return scenario;
}

}  // namespace trireme::test
