#include <algorithm>
#include <cmath>
#include <iostream>
#include <sstream>

#include "core/cuda/matmul.h"
#include "tests/gpu/gpu_test_support.h"
#include "tests/gpu/gpu_training.h"

namespace trireme::test {

namespace {

constexpr CudaOpsOptions kSameEveryRun{.tune_matmul = false, .deterministic = true};

Curve train_on_gpu(const Scenario& scenario) {
    return train_on_gpus(scenario, kSameEveryRun);
}

Scenario scenario_of(const ModelOptions& model, const MeshShape& mesh, int steps) {
    Scenario scenario;
    scenario.model = model;
    scenario.mesh = mesh;
    scenario.global_batch = 4;
    scenario.steps = steps;
    return scenario;
}

Scenario scenario_of(Family family, const MeshShape& mesh, int steps) {
    return scenario_of(odd_model(family), mesh, steps);
}

void check_curves(const Scenario& scenario, const Curve& got, const Curve& want, double loss_bound,
                  double norm_bound) {
    const double loss = largest_difference(got.losses, want.losses);
    const double norm = largest_difference(got.grad_norms, want.grad_norms);
    std::cout << scenario.name() << ": loss " << loss << ", norm " << norm << "\n";
    INFO(scenario.name());
    CHECK(loss <= loss_bound);
    CHECK(norm <= norm_bound);
}

// Trains a model with all that is particular to Qwen and later Llamas on four GPUs.
void check_additions(const MeshShape& mesh, DType compute) {
    if (!enough_gpus(4)) return;
    Scenario scenario = scenario_of(with_additions(odd_model(Family::llama)), {}, 2);
    const Curve want = train(scenario);
    scenario.mesh = mesh;
    scenario.schedule = mesh.pipeline > 1 ? "zb-h1" : "1f1b";
    scenario.sequence_parallel = mesh.tensor > 1;
    scenario.recompute.policy = Recompute::selective;
    scenario.compute = compute;
    const bool is_exact = compute == DType::f32;
    check_curves(scenario, train_on_gpu(scenario), want, is_exact ? 1e-4 : 1e-2,
                 is_exact ? 1e-3 : 1e-1);
}

// The logits of a batch, as an evaluation hands them over part by part.
class GatheredLogits {
public:
    explicit GatheredLogits(const Scenario& scenario)
        : scenario_(scenario),
          values_(static_cast<size_t>(scenario.global_batch * scenario.sequence *
                                      scenario.model.vocab_size)) {}

    // Returns the mean loss. Ranks write different parts.
    double evaluate(Engine& engine, int data_rank) {
        TokenSource source(scenario_, data_rank, scenario_.mesh.data);
        const std::vector<HostMicroBatch>& batches = source.step(1);
        const LogitRequest request{scenario_.global_batch,
                                   [this](const LogitRows& logits) { put(logits); }};
        const EvaluationResult result = engine.evaluate(
            static_cast<int>(batches.size()),
            [&](int i) { return batches[static_cast<size_t>(i)]; }, {}, request);
        return result.loss_sum / static_cast<double>(result.tokens);
    }

    const std::vector<float>& values() const { return values_; }

private:
    void put(const LogitRows& logits) {
        for (int64_t row = 0; row < logits.rows; ++row) {
            const auto from = logits.values.begin() + row * logits.stride;
            std::copy(from, from + logits.columns,
                      values_.begin() + (logits.first_row + row) * scenario_.model.vocab_size +
                          logits.first_column);
        }
    }

    Scenario scenario_;
    std::vector<float> values_;
};

}  // namespace

TEST_CASE("the first training steps on the GPU are those of the CPU", "[gpu][training]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const DType compute = GENERATE(DType::f32, DType::bf16);
    Scenario scenario = scenario_of(family, {}, 2);
    scenario.global_batch = 2;
    const Curve want = train(scenario);
    scenario.compute = compute;
    const bool is_exact = compute == DType::f32;
    check_curves(scenario, train_on_gpu(scenario), want, is_exact ? 1e-4 : 1e-2,
                 is_exact ? 1e-3 : 1e-1);
}

TEST_CASE("training steps on the GPU give the curve of the CPU in fp32", "[gpu][training][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const Scenario scenario = scenario_of(family, {}, 20);
    check_curves(scenario, train_on_gpu(scenario), train(scenario), 1e-4, 1e-3);
}

TEST_CASE("bf16 training on the GPU stays within bf16 rounding of the CPU in fp32",
          "[gpu][training][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    Scenario scenario = scenario_of(family, {}, 20);
    const Curve want = train(scenario);
    scenario.compute = DType::bf16;
    check_curves(scenario, train_on_gpu(scenario), want, 1e-2, 1e-1);
}

TEST_CASE("meshes of GPUs give the curve of one", "[gpu][training][nccl][long]") {
    struct Case {
        Family family;
        MeshShape mesh;
        const char* schedule;
        int zero;
        bool sequence_parallel;
        int pieces = 1;
    };
    const Case test =
        GENERATE(Case{Family::llama, {.tensor = 2}, "1f1b", 1, false, 2},
                 Case{Family::gpt2, {.tensor = 2}, "1f1b", 1, true, 4},
                 Case{Family::llama, {.tensor = 2}, "zb-h1", 1, true, 2},
                 Case{Family::gpt2, {.pipeline = 2}, "1f1b", 0, false},
                 Case{Family::llama, {.pipeline = 4}, "gpipe", 1, false},
                 Case{Family::llama, {.data = 2}, "1f1b", 0, false},
                 Case{Family::gpt2, {.data = 4}, "1f1b", 1, false},
                 Case{Family::llama, {.context = 2}, "1f1b", 1, false},
                 Case{Family::gpt2, {.context = 2, .pipeline = 2}, "zb-h1", 2, false},
                 Case{Family::llama, {.tensor = 2, .data = 2, .pipeline = 2}, "1f1b", 1, true},
                 Case{Family::gpt2, {.tensor = 2, .data = 2, .pipeline = 2}, "gpipe", 0, false});
    if (!enough_gpus(test.mesh.ranks())) return;
    Scenario scenario = scenario_of(test.family, test.mesh, 4);
    scenario.schedule = test.schedule;
    scenario.zero = test.zero;
    scenario.sequence_parallel = test.sequence_parallel;
    scenario.pieces = test.pieces;
    Scenario alone = scenario_of(test.family, {}, 4);
    check_curves(scenario, train_on_gpu(scenario), train(alone), 1e-4, 1e-3);
}

TEST_CASE("every pipeline schedule trains GPUs as one CPU does", "[gpu][training][nccl]") {
    if (!enough_gpus(2)) return;
    struct Case {
        const char* schedule;
        int virtual_stages;
    };
    const Case test = GENERATE(Case{"gpipe", 1}, Case{"1f1b", 1}, Case{"interleaved", 2},
                               Case{"zb-h1", 1}, Case{"zb-h2", 1}, Case{"zb-v", 2});
    Scenario scenario = scenario_of(Family::llama, {.pipeline = 2}, 1);
    const Curve want = train(scenario_of(Family::llama, {}, 1));
    scenario.schedule = test.schedule;
    scenario.virtual_stages = test.virtual_stages;
    check_curves(scenario, train_on_gpu(scenario), want, 1e-4, 1e-3);
}

TEST_CASE("an interleaved pipeline of GPUs evaluates before and between its steps",
          "[gpu][training][nccl]") {
    if (!enough_gpus(2)) return;
    Scenario scenario = scenario_of(Family::llama, {.pipeline = 2}, 2);
    scenario.schedule = "interleaved";
    scenario.virtual_stages = 2;
    std::vector<double> losses;
    run_gpu_engines(scenario, kSameEveryRun, [&](GpuRank rank) {
        TokenSource source(scenario, rank.data_rank(), scenario.mesh.data);
        for (int step = 1; step <= 2; ++step) {
            const EvaluationResult result = rank.engine.evaluate(
                2,
                [batches = &source.step(1)](int i) { return (*batches)[static_cast<size_t>(i)]; });
            if (rank.is_first()) losses.push_back(result.loss_sum);
            run_steps(rank.engine, scenario, step, step);
        }
    });
    REQUIRE(losses.size() == 2);
    CHECK(losses[1] < losses[0]);
}

TEST_CASE("GPUs keep documents apart as one CPU does", "[gpu][training][nccl][long]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const int mesh = GENERATE(0, 1);
    if (!enough_gpus(mesh == 1 ? 8 : 1)) return;
    Scenario alone = scenario_of(family, {}, 4);
    alone.documents_apart = true;
    Scenario scenario = alone;
    if (mesh == 1) {
        scenario.mesh = {.tensor = 2, .data = 2, .pipeline = 2};
        scenario.sequence_parallel = true;
    }
    check_curves(scenario, train_on_gpu(scenario), train(alone), 1e-4, 1e-3);
}

TEST_CASE("biases, head norms and stretched RoPE train on the GPU as on the CPU",
          "[gpu][training][nccl]") {
    check_additions({.tensor = 2, .pipeline = 2}, DType::f32);
    check_additions({.context = 2, .data = 2}, DType::f32);
}

TEST_CASE("biases, head norms and stretched RoPE train on the GPU in bf16",
          "[gpu][training][nccl][long]") {
    check_additions({.tensor = 2, .pipeline = 2}, DType::bf16);
    check_additions({.context = 2, .data = 2}, DType::bf16);
}

TEST_CASE("an evaluation on GPUs hands over the CPU's logits", "[gpu][training][nccl]") {
    if (!enough_gpus(8)) return;
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const Scenario alone = scenario_of(family, {}, 1);
    GatheredLogits want(alone);
    double want_loss = 0, loss = 0;
    run_thread_ranks(1, [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, alone.mesh, kv_groups(alone.model, 1));
        Engine engine(context_of(alone, *device, mesh), engine_options_of(alone));
        want_loss = want.evaluate(engine, 0);
    });
    Scenario scenario = alone;
    scenario.mesh = {.tensor = 2, .data = 2, .pipeline = 2};
    scenario.sequence_parallel = family == Family::llama;
    scenario.pieces = 2;
    GatheredLogits got(scenario);
    run_gpu_engines(scenario, kSameEveryRun, [&](GpuRank rank) {
        const double own_loss = got.evaluate(rank.engine, rank.data_rank());
        if (rank.is_first()) loss = own_loss;
    });
    double largest = 0.0;
    for (size_t i = 0; i < want.values().size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(got.values()[i]) -
                                             static_cast<double>(want.values()[i])));
    }
    std::cout << scenario.name() << ": logits " << largest << "\n";
    CHECK(largest < 1e-5);
    CHECK(loss == Approx(want_loss).epsilon(1e-6));
    CHECK(want.values().back() != 0.0f);
}

TEST_CASE("a bias that all tensor ranks hold gets its gradient in the same way on each of them",
          "[gpu][training]") {
    const int ranks = GENERATE(1, 2);
    if (!enough_gpus(ranks)) return;
    const Scenario scenario = scenario_of(Family::gpt2, {.tensor = ranks}, 1);
    std::string algorithms;
    run_gpu_engines(scenario, {.tune_matmul = true}, [&](GpuRank rank) {
        run_steps(rank.engine, scenario, 1, 1);
        if (rank.is_first()) algorithms = rank.device.ops().matmul().describe_algorithms();
    });
    // The products whose way was measured, as [tokens, outputs]^T ...: sums.
    bool of_hidden = false, of_others = false;
    std::istringstream lines(algorithms);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(", sums,") == std::string::npos) continue;
        const bool hidden = line.find(", 48]^T") != std::string::npos;
        (hidden ? of_hidden : of_others) = true;
    }
    CHECK(of_others);
    CHECK(of_hidden == (ranks == 1));
}

TEST_CASE("two deterministic runs on the GPU give the same bits", "[gpu][training][long]") {
    Scenario scenario = scenario_of(Family::llama, {}, 3);
    scenario.compute = DType::bf16;
    const Curve first = train_on_gpu(scenario), second = train_on_gpu(scenario);
    CHECK(first.losses == second.losses);
    CHECK(first.grad_norms == second.grad_norms);
}

}  // namespace trireme::test
