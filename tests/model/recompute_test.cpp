#include <catch2/catch.hpp>

#include <numeric>

#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

size_t bytes_of(const Engine& engine, const std::string& label) {
    for (const auto& [name, bytes] : engine.memory()) {
        if (name == label) return bytes;
    }
    return 0;
}

struct Memory {
    size_t activations = 0, scratch = 0;
};

Memory memory_of(const Scenario& scenario) {
    Memory memory;
    run_thread_ranks(1, [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, {}, 1);
        const Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        memory = {bytes_of(engine, "activations"), bytes_of(engine, "scratch")};
    });
    return memory;
}

struct Setting {
    MeshShape mesh = {};
    bool sequence_parallel = false;
    DType compute = DType::f32;
};

const Setting kAlone, kTensorAndData{.mesh = {.tensor = 2, .data = 2}},
    kTensorAndPipeline{.mesh = {.tensor = 2, .pipeline = 2}, .sequence_parallel = true},
    kInBf16{.compute = DType::bf16};

void require_same_bits(const ModelOptions& model, const Setting& setting) {
    Scenario scenario;
    scenario.model = model;
    scenario.steps = 4;
    scenario.mesh = setting.mesh;
    scenario.sequence_parallel = setting.sequence_parallel;
    scenario.compute = setting.compute;
    const Curve want = train(scenario);
    for (const Recompute policy : {Recompute::selective, Recompute::full}) {
        for (const int layers : {0, 2}) {
            scenario.recompute = {policy, layers};
            INFO(scenario.name() << ", policy " << static_cast<int>(policy) << " on " << layers);
            const Curve curve = train(scenario);
            CHECK(curve.losses == want.losses);
            CHECK(curve.grad_norms == want.grad_norms);
        }
    }
}

}  // namespace

TEST_CASE("computing activations again gives the same bits as keeping them", "[model][recompute]") {
    require_same_bits(odd_model(Family::gpt2), kTensorAndPipeline);
    require_same_bits(odd_model(Family::llama), kAlone);
    require_same_bits(with_additions(odd_model(Family::llama)), kInBf16);
}

TEST_CASE("computing activations again gives the same bits in other settings",
          "[model][recompute][long]") {
    require_same_bits(odd_model(Family::gpt2), kAlone);
    require_same_bits(odd_model(Family::gpt2), kTensorAndData);
    require_same_bits(odd_model(Family::gpt2), kInBf16);
    require_same_bits(odd_model(Family::llama), kTensorAndData);
    require_same_bits(odd_model(Family::llama), kTensorAndPipeline);
    require_same_bits(odd_model(Family::llama), kInBf16);
    require_same_bits(with_additions(odd_model(Family::llama)), kAlone);
    require_same_bits(with_additions(odd_model(Family::llama)), kTensorAndData);
    require_same_bits(with_additions(odd_model(Family::llama)), kTensorAndPipeline);
}

TEST_CASE("full recomputation keeps the layers' inputs and nothing else", "[model][recompute]") {
    Scenario scenario;
    scenario.model = odd_model(GENERATE(Family::gpt2, Family::llama));
    scenario.model.layers = 12;
    scenario.micro_batch = 4;
    const Memory none = memory_of(scenario);
    scenario.recompute.policy = Recompute::selective;
    const Memory selective = memory_of(scenario);
    scenario.recompute.policy = Recompute::full;
    const Memory full = memory_of(scenario);

    const double residual =
        static_cast<double>(scenario.micro_batch * scenario.sequence * scenario.model.hidden) * 4;
    // The embedding's output, each layer's, and what the loss head keeps (two of the same size).
    const double inputs = residual * (1 + scenario.model.layers + 2);
    CHECK(static_cast<double>(full.activations) == Approx(inputs).epsilon(0.05));
    CHECK(selective.activations * 10 < none.activations * 7);
    CHECK(full.activations * 2 < selective.activations);
    // The working set is one layer's.
    CHECK(full.scratch - none.scratch <= (none.activations - full.activations) / 10);
}

}  // namespace trireme::test
