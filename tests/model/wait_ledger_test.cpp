#include <catch2/catch.hpp>

#include <functional>

#include "core/trace.h"
#include "parallel/throttled_world.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"
#include "tests/model/training_support.h"

// Exposed communication is put down to the mesh axis that it belongs to.

namespace trireme::test {

namespace {

constexpr int kSteps = 3;

// Rank 0's waits in a step, the shortest of a few, since other programs can only lengthen them.
AxisSeconds waits_of(const Scenario& scenario, const std::vector<LinkOptions>& links,
                     Trace* trace = nullptr) {
    AxisSeconds least{1e9, 1e9, 1e9, 1e9, 1e9};
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        const auto throttled = make_throttled_world(world, links);
        Mesh mesh(*throttled, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        EngineOptions options = engine_options_of(scenario);
        if (world.rank() == 0) options.trace = trace;
        Engine engine(context_of(scenario, *device, mesh), options);
        TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
        for (int step = 1; step <= 1 + kSteps; ++step) {
            const StepResult result =
                engine.step(step, 1e-3, [batches = &source.step(step)](int i) {
                    return (*batches)[static_cast<size_t>(i)];
                });
            const AxisSeconds& waits = result.axis_wait_seconds;
            if (step == 1 || world.rank() != 0) continue;
            least.tensor = std::min(least.tensor, waits.tensor);
            least.context = std::min(least.context, waits.context);
            least.data = std::min(least.data, waits.data);
            least.pipeline = std::min(least.pipeline, waits.pipeline);
            least.neighbours = std::min(least.neighbours, waits.neighbours);
        }
    });
    return least;
}

Scenario scenario_on(const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = odd_model(Family::gpt2);
    scenario.mesh = mesh;
    scenario.sequence_parallel = mesh.tensor > 1;
    scenario.global_batch = 4;
    return scenario;
}

constexpr MeshShape kTensorAndData{.tensor = 2, .context = 1, .data = 2, .pipeline = 1};
constexpr MeshShape kContextAndData{.tensor = 1, .context = 2, .data = 2, .pipeline = 1};
constexpr MeshShape kDataAndPipeline{.tensor = 1, .context = 1, .data = 2, .pipeline = 2};

}  // namespace

TEST_CASE("a slow axis shows as its own exposed communication and no other's", "[model][waits]") {
    // Slower again where a busy machine makes the other axes wait as well.
    const auto waits_of_slow = [](const MeshShape& mesh, MeshAxis axis, double latency_ms,
                                  const std::function<bool(const AxisSeconds&)>& stands_out) {
        for (const double slower : {1.0, 5.0, 25.0}) {
            const AxisSeconds waits =
                waits_of(scenario_on(mesh), {{axis, latency_ms * slower, 0.0}});
            if (stands_out(waits)) return waits;
        }
        return AxisSeconds{};
    };
    SECTION("tensor") {
        const AxisSeconds waits = waits_of_slow(kTensorAndData, MeshAxis::tensor, 2.0,
                                                [](auto& w) { return w.data < w.tensor / 4; });
        CHECK(waits.tensor > 2 * 5 * 4 * 2e-3);  // four a layer, five layers, two micro-batches
        CHECK(waits.pipeline == 0.0);
    }
    SECTION("context") {
        const AxisSeconds waits = waits_of_slow(kContextAndData, MeshAxis::context, 10.0,
                                                [](auto& w) { return w.data < w.context / 2; });
        CHECK(waits.context > 2 * 5 * 4 * 1e-2);  // four a layer, five layers, two micro-batches
        CHECK(waits.tensor + waits.pipeline == 0.0);
    }
    SECTION("data") {
        const AxisSeconds waits = waits_of_slow(kTensorAndData, MeshAxis::data, 10.0,
                                                [](auto& w) { return w.tensor < w.data / 2; });
        CHECK(waits.data > 0.04);
        CHECK(waits.pipeline == 0.0);
    }
    SECTION("pipeline") {
        const AxisSeconds waits = waits_of_slow(kDataAndPipeline, MeshAxis::pipeline, 40.0,
                                                [](auto& w) { return w.data < w.pipeline / 2; });
        CHECK(waits.neighbours > 0.04);
        CHECK(waits.neighbours < waits.pipeline);  // which has the tied embedding's gradient too
        CHECK(waits.tensor == 0.0);
    }
}

TEST_CASE("waits that last stand in the trace under their axis", "[model][waits]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/trace.json";
    Trace trace(0, 4096);
    waits_of(scenario_on(kTensorAndData),
             {{MeshAxis::tensor, 1.0, 0.0}, {MeshAxis::data, 1.0, 0.0}}, &trace);
    trace.write_json(path);
    const std::string text = read_text(path);
    CHECK(text.find("\"wait for tensor\"") != std::string::npos);
    CHECK(text.find("\"wait for data\"") != std::string::npos);
    CHECK(text.find("\"wait for pipeline\"") == std::string::npos);
}

}  // namespace trireme::test
