#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <mutex>
#include <random>

#include "app/fault_injection.h"
#include "app/numerics_guard.h"
#include "app/replica_check.h"
#include "core/error.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"
#include "tests/model/training_support.h"

using namespace trireme;
using namespace trireme::test;

namespace {

using Catch::Matchers::Contains;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

StepResult result_of(double loss, double grad_norm) {
    StepResult result;
    result.loss = loss;
    result.grad_norm = grad_norm;
    return result;
}

Scenario scenario_of(Family family, const MeshShape& mesh, int zero) {
    Scenario scenario;
    scenario.model = mesh.tensor > 2 ? wide_model(family) : odd_model(family);
    scenario.mesh = mesh;
    scenario.zero = zero;
    scenario.global_batch = 2 * mesh.data;
    return scenario;
}

// What one rank sees of a run with faults.
struct RankOutcome {
    std::vector<bool> updated;  // of each step
    bool changed_without_update = false;
    std::string error;
    std::vector<std::string> drift;  // at the end
};

std::vector<std::byte> parameters_of(Engine& engine) {
    std::vector<std::byte> bytes;
    for (auto& chunk : engine.model().chunks()) {
        chunk->store().wait_parameters();
        const Tensor values = chunk->store().parameters();
        const auto* begin = static_cast<const std::byte*>(values.data);
        bytes.insert(bytes.end(), begin, begin + values.bytes());
    }
    return bytes;
}

std::vector<RankOutcome> run_with_faults(const Scenario& scenario,
                                         const std::vector<FaultOptions>& faults,
                                         const NumericsOptions& numerics, int steps) {
    std::vector<RankOutcome> outcomes(static_cast<size_t>(scenario.mesh.ranks()));
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        RankOutcome& outcome = outcomes[static_cast<size_t>(world.rank())];
        ControlGroup control(world, "control");
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor),
                  scenario.data_shards);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        Log log(1, 2);
        NumericsGuard guard(numerics, control, log);
        TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
        try {
            for (int step = 1; step <= steps; ++step) {
                const auto before = parameters_of(engine);
                const auto& batches = source.step(step);
                const StepResult result = engine.step(
                    step, 1e-3,
                    [&](int i) {
                        if (i == 0) inject_faults(faults, world.rank(), step, engine);
                        return batches[static_cast<size_t>(i)];
                    },
                    {.may_update = [&](const StepResult& r) { return guard.may_update(r); }});
                outcome.updated.push_back(result.updated);
                if (!result.updated && parameters_of(engine) != before) {
                    outcome.changed_without_update = true;
                }
                guard.after_step(step, result, engine);
            }
            outcome.drift = find_drifted_replicas(engine, control);
        } catch (const Error& error) {
            outcome.error = error.what();
        }
    });
    return outcomes;
}

}  // namespace

TEST_CASE("a spike is what lies far above the window, once the window is half full", "[numerics]") {
    SpikeWindow window(8);
    for (const double value : {1.0, 3.0, 1.0}) {
        CHECK(window.score(100.0) == 0.0);
        window.add(value);
    }
    window.add(3.0);  // mean 2, deviation 1
    CHECK(window.score(2.0) == 0.0);
    CHECK(window.score(5.0) == Approx(3.0));
    CHECK(window.score(kNan) == 0.0);
    window.add(kNan);
    CHECK(window.score(5.0) == Approx(3.0));
    for (int i = 0; i < 8; ++i) window.add(7.0);  // the old ones have left
    CHECK(window.score(70.0) == 0.0);             // all alike
}

TEST_CASE("a window that was written and read again scores with the same bits", "[numerics]") {
    SpikeWindow window(16), other(16);
    std::mt19937 random(7);
    for (int i = 0; i < 30; ++i) window.add(std::ldexp(static_cast<double>(random()), -31));
    other.restore(window.text());
    CHECK(other.text() == window.text());
    const double score = window.score(3.0), again = other.score(3.0);
    CHECK(std::memcmp(&score, &again, sizeof(score)) == 0);
    CHECK_THROWS_AS(other.restore("1.5 rubbish"), Error);
}

TEST_CASE("the message on values that are not finite names rank and tensor", "[numerics]") {
    const NotFiniteReport clean{"rank 0", {}};
    NotFiniteReport source{"rank 1", {false, {"a", "b"}, {}}};
    const NotFiniteReport holder{"rank 2", {false, {}, {"b", "b"}}};
    CHECK(explain_not_finite({clean, source, holder}) == "rank 1: gradient of b");
    source.found.own.clear();
    CHECK(explain_not_finite({clean, source, holder}) == "rank 2: gradient of b");
    source.found.loss = true;
    CHECK(explain_not_finite({source, clean}) == "rank 1: loss");
    CHECK_THAT(explain_not_finite({clean}), Contains("overflowed"));
    NotFiniteReport many{"rank 5", {false, {"a", "b", "c", "d", "e", "f"}, {}}};
    CHECK(explain_not_finite({many}) == "rank 5: gradient of a, b, c, d and 2 more");
}

TEST_CASE("a NaN in one rank's gradient updates nothing anywhere and is put down to that rank",
          "[numerics]") {
    struct Case {
        MeshShape mesh;
        int zero;
        int rank;
        const char* tensor;
        const char* place;
    };
    const Case test = GENERATE(
        Case{{.data = 2}, 0, 1, "layers.3.mlp.down.weight", "rank 1 (tensor 0, data 1"},
        Case{{.data = 3}, 1, 2, "layers.0.attention.query.weight", "rank 2 (tensor 0, data 2"},
        Case{{.tensor = 2, .data = 2}, 1, 3, "layers.1.mlp.up.weight", "rank 3 (tensor 1, data 1"},
        Case{{.data = 2, .pipeline = 2},
             1,
             1,
             "layers.0.mlp_norm.weight",
             "rank 1 (tensor 0, data 1"},
        Case{{.context = 2, .data = 2},
             1,
             1,
             "layers.4.attention.key.weight",
             "rank 1 (tensor 0, context 1, data 0"},
        Case{{}, 1, 0, "head.weight", "rank 0 (tensor 0, data 0"});
    const Scenario scenario = scenario_of(Family::llama, test.mesh, test.zero);
    const std::vector<FaultOptions> faults{
        {.rank = test.rank, .step = 2, .action = FaultAction::nan_gradient, .tensor = test.tensor}};
    for (const RankOutcome& outcome : run_with_faults(scenario, faults, {}, 3)) {
        CHECK(outcome.updated == std::vector<bool>{true, false});
        CHECK_FALSE(outcome.changed_without_update);
        CHECK_THAT(outcome.error,
                   Contains("step 2: loss ") &&
                       Contains("not finite. " + std::string(test.place)) &&
                       Contains("gradient of " + std::string(test.tensor) + ". Nothing"));
    }
}

TEST_CASE("with the policy to skip, training goes on after a NaN until too many follow",
          "[numerics]") {
    const int zero = GENERATE(0, 1);
    const Scenario scenario = scenario_of(Family::gpt2, {.data = 2}, zero);
    std::vector<FaultOptions> faults;
    for (const int64_t step : {2, 4, 5, 6}) {
        faults.push_back({.rank = 0, .step = step, .tensor = "layers.0.mlp.up.bias"});
    }
    NumericsOptions numerics;
    numerics.on_nonfinite = NonfinitePolicy::skip;
    numerics.max_skips = 2;
    for (const RankOutcome& outcome : run_with_faults(scenario, faults, numerics, 7)) {
        CHECK(outcome.updated == std::vector<bool>{true, false, true, false, false, false});
        CHECK_FALSE(outcome.changed_without_update);
        CHECK_THAT(outcome.error, Contains("step 6") && Contains("2 steps in a row"));
    }
}

TEST_CASE("a jump of the loss is skipped when asked, and a level that stays is accepted",
          "[numerics]") {
    run_thread_ranks(1, [&](World& world) {
        ControlGroup control(world, "control");
        Log log(1, 2);
        NumericsOptions options;
        options.on_spike = SpikePolicy::skip;
        options.spike_window = 16;
        NumericsGuard guard(options, control, log);
        const Scenario scenario = scenario_of(Family::gpt2, {}, 1);
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, 1);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        int64_t step = 0;
        const auto offer = [&](double loss) {
            StepResult result = result_of(loss, 1.0);
            result.updated = guard.may_update(result);
            guard.after_step(++step, result, engine);
            return result.updated;
        };
        for (int i = 0; i < 20; ++i) REQUIRE(offer(i % 2 ? 2.0 : 2.1));
        CHECK(offer(2.2));
        CHECK_FALSE(offer(9.0));
        CHECK(offer(2.0));
        int skipped = 0;
        while (!offer(9.0)) ++skipped;
        CHECK(skipped <= 2);

        std::map<std::string, std::string> state, again;
        guard.save_state(state);
        NumericsGuard other(options, control, log);
        other.restore_state(state);
        other.save_state(again);
        CHECK(again == state);
    });
}

TEST_CASE("replicas do not drift in an undisturbed run", "[numerics]") {
    Scenario scenario =
        scenario_of(GENERATE(Family::gpt2, Family::llama), {.tensor = 2, .data = 2}, 0);
    scenario.zero = GENERATE(0, 1, 2, 3);
    scenario.sequence_parallel = GENERATE(false, true);
    for (const RankOutcome& outcome : run_with_faults(scenario, {}, {}, 3)) {
        CHECK(outcome.error == "");
        CHECK(outcome.drift == std::vector<std::string>());
    }
}

TEST_CASE("a flipped bit in one replica is found and the rank in the minority named",
          "[numerics]") {
    struct Case {
        Family family;
        MeshShape mesh;
        int zero;
        int rank;
        const char* tensor;
        const char* line;
    };
    const Case test = GENERATE(Case{Family::llama,
                                    {.data = 3},
                                    0,
                                    1,
                                    "layers.2.mlp.gate.weight",
                                    "rank 1 differs from ranks 0, 2"},
                               Case{Family::gpt2,
                                    {.tensor = 4},
                                    1,
                                    2,
                                    "layers.1.attention_norm.weight",
                                    "rank 2 differs from ranks 0, 1, 3"},
                               Case{Family::llama,
                                    {.data = 4, .pipeline = 2},
                                    0,
                                    6,
                                    "final_norm.weight",
                                    "rank 6 differs from ranks 4, 5, 7"},
                               Case{Family::llama,
                                    {.context = 2},
                                    0,
                                    1,
                                    "final_norm.weight",
                                    "ranks 0, 1 differ from one another"});
    const Scenario scenario = scenario_of(test.family, test.mesh, test.zero);
    const std::vector<FaultOptions> faults{
        {.rank = test.rank, .step = 2, .action = FaultAction::flip_bit, .tensor = test.tensor}};
    for (const RankOutcome& outcome : run_with_faults(scenario, faults, {}, 3)) {
        CHECK(outcome.error == "");
        REQUIRE_FALSE(outcome.drift.empty());
        bool is_named = false;
        for (const std::string& line : outcome.drift) {
            CHECK_THAT(line, Contains(test.line) || Contains("more tensors"));
            is_named = is_named || line.find(test.tensor) != std::string::npos;
        }
        CHECK(is_named);
    }
}

TEST_CASE("a run ends with code 76 for a NaN and for a replica that drifts, and saves neither",
          "[numerics][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", small_text(300));
    write_text(at + "/run.yaml", R"(run: {name: tiny, output: out, steps: 9}
device: {threads: 1}
model: {layers: 2, hidden: 16, heads: 2, vocab_size: 257, max_sequence_length: 16}
data: {train: [{path: text}]}
batch: {global: 6, micro: 1}
data_parallel: {zero: 0}
optimizer: {lr: 1.0e-3}
checkpoint: {interval: 2}
numerics: {check_replicas: 3}
)");
    REQUIRE(trireme_in(at, {"prepare", "--input", "text.txt", "--output", "text"}).code == 0);
    const auto fault = [&](const std::string& what) {
        return trireme_in(at, {"train", "run.yaml", "--set", "testing.faults=[" + what + "]"}, 3);
    };
    const Outcome nan =
        fault("{rank: 2, step: 3, action: nan-gradient, tensor: layers.1.mlp.up.weight}");
    CHECK(nan.code == 76);
    CHECK_THAT(nan.error, Contains("rank 2 (tensor 0, data 2, pipeline 0)") &&
                              Contains("layers.1.mlp.up.weight"));
    CHECK(std::filesystem::exists(at + "/out/checkpoints/step-00000002"));
    CHECK_FALSE(std::filesystem::exists(at + "/out/checkpoints/step-00000004"));

    // Goes on from step 2; the check at step 6 is the first after the fault in step 5.
    const Outcome flip =
        fault("{rank: 1, step: 5, action: flip-bit, tensor: layers.0.mlp.down.weight}");
    CHECK(flip.code == 76);
    CHECK_THAT(flip.error, Contains("step 6") && Contains("layers.0.mlp.down.weight") &&
                               Contains("rank 1 differs from ranks 0, 2"));
    CHECK(std::filesystem::exists(at + "/out/checkpoints/step-00000004"));
    CHECK_FALSE(std::filesystem::exists(at + "/out/checkpoints/step-00000006"));
}
