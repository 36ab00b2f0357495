#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "tests/gpu/gpu_training.h"

#ifdef TRIREME_CUDA_EMULATED
#include "tests/cuda_emulation/emulation.h"
#endif

namespace trireme::test {

namespace {

// What rank 0 saw.
struct Run {
    Curve curve;
    std::string notices;
    bool records = false;
};

struct Conditions {
    GraphUse graphs = GraphUse::always;
    bool deterministic = true;
    // How long the host takes for a step besides, with and without recorded passes.
    std::chrono::milliseconds recorded{0}, usual{0};
    std::function<void(int64_t step, CudaDevice&)> after_step = [](int64_t, CudaDevice&) {};
};

Run train_with(const Scenario& scenario, const Conditions& conditions) {
    Run run;
    const CudaOpsOptions ops{.tune_matmul = !conditions.deterministic,
                             .deterministic = conditions.deterministic};
    const auto train_rank = [&](GpuRank rank) {
        Engine& engine = rank.engine;
        TokenSource source(scenario, rank.data_rank(), scenario.mesh.data);
        const StepHooks hooks{.vote =
                                  [&] {
                                      std::this_thread::sleep_for(engine.records_passes()
                                                                      ? conditions.recorded
                                                                      : conditions.usual);
                                      return 0.0;
                                  },
                              .may_update = {}};
        Run own;
        for (int step = 1; step <= scenario.steps; ++step) {
            const auto& batches = source.step(step);
            const StepResult result = engine.step(
                step, scenario.optimizer.lr * step,
                [&](int i) { return batches[static_cast<size_t>(i)]; }, hooks);
            own.curve.losses.push_back(result.loss);
            own.curve.grad_norms.push_back(result.grad_norm);
            own.notices += engine.take_notice();
            conditions.after_step(step, rank.device);
        }
        own.records = engine.records_passes();
        if (rank.is_first()) run = std::move(own);
    };
    run_gpu_engines(scenario, ops, train_rank, conditions.graphs);
    return run;
}

Scenario scenario_of(Family family, const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.model.dropout = 0.0f;
    scenario.mesh = mesh;
    scenario.global_batch = 4;
    scenario.steps = 3;
    return scenario;
}

void check_same_bits(const Scenario& scenario) {
    INFO(scenario.name());
    const Run plain = train_with(scenario, {.graphs = GraphUse::never});
    const Run recorded = train_with(scenario, {});
    CHECK_FALSE(plain.records);
    CHECK(recorded.records);
    CHECK(recorded.notices.empty());
    CHECK(recorded.curve.losses == plain.curve.losses);
    CHECK(recorded.curve.grad_norms == plain.curve.grad_norms);
    CHECK(plain.curve.losses.front() != plain.curve.losses.back());
}

}  // namespace

TEST_CASE("recorded passes train one GPU to the same bits", "[gpu][graph][training]") {
    check_same_bits(scenario_of(GENERATE(Family::gpt2, Family::llama), {}));
}

TEST_CASE("recorded passes train to the same bits in bf16, where layers are computed again",
          "[gpu][graph][training][long]") {
    Scenario scenario = scenario_of(Family::llama, {});
    scenario.micro_batch = 2;
    scenario.compute = DType::bf16;
    scenario.recompute.policy = Recompute::full;
    check_same_bits(scenario);
}

TEST_CASE("recorded passes take the fastest attention and algorithms as well",
          "[gpu][graph][training][long]") {
    Scenario scenario = scenario_of(Family::gpt2, {});
    scenario.compute = DType::bf16;
    const Run plain = train_with(scenario, {.graphs = GraphUse::never, .deterministic = false});
    const Run recorded = train_with(scenario, {.deterministic = false});
    CHECK(recorded.records);
    CHECK(largest_difference(recorded.curve.losses, plain.curve.losses) < 1e-3);
}

TEST_CASE("recorded passes train data ranks to the same bits",
          "[gpu][graph][training][nccl][long]") {
    if (!enough_gpus(2)) return;
    Scenario scenario = scenario_of(Family::gpt2, {.data = 2});
    scenario.zero = GENERATE(0, 1);
    check_same_bits(scenario);
}

TEST_CASE("recorded passes train pipelines to the same bits",
          "[gpu][graph][training][nccl][long]") {
    if (!enough_gpus(2)) return;
    const auto [schedule, virtual_stages] =
        GENERATE(std::pair{"interleaved", 2}, std::pair{"zb-v", 2});
    Scenario scenario = scenario_of(Family::llama, {.pipeline = 2});
    scenario.schedule = schedule;
    scenario.virtual_stages = virtual_stages;
    check_same_bits(scenario);
}

TEST_CASE("recorded passes train pipelines of data ranks to the same bits",
          "[gpu][graph][training][nccl][long]") {
    if (!enough_gpus(4)) return;
    Scenario scenario = scenario_of(Family::gpt2, {.data = 2, .pipeline = 2});
    scenario.schedule = "zb-h1";
    check_same_bits(scenario);
}

TEST_CASE("passes that cannot be recorded are done as without, and it is said",
          "[gpu][graph][training][nccl][long]") {
    const int tensor = GENERATE(1, 2);
    if (!enough_gpus(tensor)) return;
    Scenario scenario = scenario_of(Family::llama, {.tensor = tensor});
    scenario.steps = 2;
    if (tensor == 1) scenario.model.dropout = 0.1f;
    const Run plain = train_with(scenario, {.graphs = GraphUse::never});
    const Run recorded = train_with(scenario, {});
    CHECK_FALSE(recorded.records);
    CHECK(recorded.notices == std::string("device.graphs: always has no effect: with ") +
                                  (tensor == 1 ? "model.dropout > 0 no two passes are the same"
                                               : "mesh.tensor > 1 a pass communicates"));
    CHECK(recorded.curve.losses == plain.curve.losses);
    CHECK(train_with(scenario, {.graphs = GraphUse::where_faster}).notices.empty());
}

TEST_CASE("passes are recorded where steps are shorter then", "[gpu][graph][training]") {
    Scenario scenario = scenario_of(Family::llama, {});
    scenario.global_batch = 2;
    scenario.steps = 8;
    const auto begin = std::chrono::steady_clock::now();
    const Run plain = train_with(scenario, {.graphs = GraphUse::never});
    // More than the differences among steps, also where a sanitizer makes them long.
    const auto pause = std::max(std::chrono::milliseconds(500),
                                std::chrono::duration_cast<std::chrono::milliseconds>(
                                    (std::chrono::steady_clock::now() - begin) / scenario.steps));
    Conditions conditions{.graphs = GraphUse::where_faster};
    SECTION("shorter") {
        conditions.usual = pause;
        const Run run = train_with(scenario, conditions);
        CHECK(run.records);
        CHECK_THAT(run.notices, Catch::Contains("launched as CUDA graphs from here on: a step "
                                                "takes "));
        CHECK(run.curve.losses == plain.curve.losses);
    }
    SECTION("longer") {
        conditions.recorded = pause;
        const Run run = train_with(scenario, conditions);
        CHECK_FALSE(run.records);
        CHECK(run.notices.empty());
        CHECK(run.curve.losses == plain.curve.losses);
    }
}

#ifdef TRIREME_CUDA_EMULATED

TEST_CASE("passes are recorded once, and again after memory was taken or given back",
          "[graph][training][long]") {
    Scenario scenario = scenario_of(Family::gpt2, {});
    scenario.global_batch = 2;
    scenario.steps = 8;
    cuda_emulation::take_graphs_made();
    std::vector<int> graphs;
    Conditions conditions;
    conditions.after_step = [&](int64_t step, CudaDevice& device) {
        graphs.push_back(cuda_emulation::take_graphs_made());
        if (step == 5) device.release(device.allocate(100, "test"));
    };
    const Run recorded = train_with(scenario, conditions);
    CHECK(graphs == std::vector<int>{0, 2, 0, 0, 0, 2, 0, 0});
    const Run plain = train_with(scenario, {.graphs = GraphUse::never});
    CHECK(recorded.curve.losses == plain.curve.losses);
}

TEST_CASE("where CUDA records nothing, training goes on unless graphs are asked for",
          "[graph][training]") {
    Scenario scenario = scenario_of(Family::gpt2, {});
    scenario.global_batch = 2;
    scenario.steps = 6;
    const Run plain = train_with(scenario, {.graphs = GraphUse::never});
    struct Refusal {
        Refusal() { cuda_emulation::refuse_graphs(true); }
        ~Refusal() { cuda_emulation::refuse_graphs(false); }
    } refusal;
    const Run run = train_with(scenario, {.graphs = GraphUse::where_faster});
    CHECK_FALSE(run.records);
    CHECK_THAT(run.notices, Catch::Contains("because of an error while recording a pass: "));
    CHECK(run.curve.losses == plain.curve.losses);
    CHECK_THROWS_WITH(train_with(scenario, {}),
                      Catch::Contains("device.graphs: always: recording a pass: ") &&
                          Catch::Contains("set device.graphs: never"));
}

#endif

}  // namespace trireme::test
