#include "app/model_checkpoint.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_saver.h"
#include "tests/core/temporary_folder.h"
#include "tests/gpu/gpu_test_support.h"
#include "tests/gpu/gpu_training.h"

namespace trireme::test {

namespace {

// Steps first..last on GPUs of their own; begins from the checkpoint in `folder` unless `first` is
// 1, and leaves one there.
Curve train_with_checkpoint(const Scenario& scenario, int first, int last,
                            const std::string& folder) {
    Curve curve;
    run_gpu_engines(scenario, {.tune_matmul = false, .deterministic = true}, [&](GpuRank rank) {
        Engine& engine = rank.engine;
        if (first > 1) {
            CheckpointReader reader(resolve_checkpoint(folder));
            read_model(engine, reader);
            publish_model(engine);
        }
        Curve own = run_steps(engine, scenario, first, last);
        CheckpointState state;
        state.step = last;
        state.mesh = scenario.mesh;
        CheckpointSaver saver(rank.control, rank.device,
                              {.folder = folder, .in_background = false});
        saver.begin(state, checkpoint_pieces(engine));
        if (const auto report = saver.wait(); report->error) throw *report->error;
        if (rank.is_first()) curve = std::move(own);
    });
    return curve;
}

// A run that stops after `half` of twice as many steps.
void check_goes_on(const MeshShape& mesh, int zero, int half) {
    if (!enough_gpus(mesh.ranks())) return;
    Scenario scenario;
    scenario.model = odd_model(Family::llama);
    scenario.mesh = mesh;
    scenario.zero = zero;
    scenario.global_batch = mesh.ranks();
    scenario.steps = 2 * half;
    const TemporaryFolder whole, parts;
    const Curve want = train_with_checkpoint(scenario, 1, 2 * half, whole.path());
    train_with_checkpoint(scenario, 1, half, parts.path());
    const Curve got = train_with_checkpoint(scenario, half + 1, 2 * half, parts.path());
    REQUIRE(got.losses.size() == static_cast<size_t>(half));
    CHECK(got.losses == std::vector<double>(want.losses.begin() + half, want.losses.end()));
    CHECK(got.grad_norms ==
          std::vector<double>(want.grad_norms.begin() + half, want.grad_norms.end()));
    // And another mesh can take it up.
    Scenario alone = scenario;
    alone.mesh = {};
    const Curve other = train_with_checkpoint(alone, 2 * half + 1, 2 * half + 1, parts.path());
    CHECK(std::isfinite(other.losses.at(0)));
}

}  // namespace

TEST_CASE("a short run on two GPUs goes on from its checkpoint with the same bits",
          "[gpu][checkpoint]") {
    check_goes_on({.data = 2}, 3, 1);
}

TEST_CASE("a run on GPUs goes on from its checkpoint with the same bits",
          "[gpu][checkpoint][long]") {
    const int zero = GENERATE(1, 3);
    check_goes_on({.tensor = 2, .data = 2}, zero, 2);
}

}  // namespace trireme::test
