#include <string>
#include <vector>

#include "core/random.h"
#include "tests/gpu/gpu_training.h"

// Everything that says how ranks share the work, drawn together: what hangs or differs over NCCL
// often does so in combinations that nobody thought of.

namespace trireme::test {

namespace {

struct Draw {
    Scenario scenario;
    CudaOpsOptions ops;
    GraphUse graphs = GraphUse::never;

    std::string name() const {
        return scenario.name() + ", recompute " +
               std::to_string(static_cast<int>(scenario.recompute.policy)) +
               (scenario.overlap ? "" : ", no overlap") + (ops.tune_matmul ? ", tuned" : "") +
               (graphs == GraphUse::always ? ", graphs" : "");
    }
};

class Dice {
public:
    explicit Dice(int number) : number_(static_cast<uint64_t>(number)) {}
    bool coin() { return below(2) == 0; }
    template <typename T>
    T one_of(const std::vector<T>& choices) {
        return choices[below(choices.size())];
    }

private:
    size_t below(size_t n) { return philox_word(key_, number_, thrown_++) % n; }

    PhiloxKey key_ = make_key(11, "mesh sweep");
    uint64_t number_;
    uint64_t thrown_ = 0;
};

Draw draw(int number) {
    Dice dice(number);
    Draw drawn;
    Scenario& s = drawn.scenario;
    const int ranks = dice.one_of<int>({1, 2, 2, 4, 4, 8});
    s.mesh.tensor = dice.one_of<int>({1, 1, 2, ranks});
    if (ranks % s.mesh.tensor != 0) s.mesh.tensor = 1;
    s.mesh.pipeline = dice.one_of<int>({1, 2, ranks / s.mesh.tensor});
    if (ranks / s.mesh.tensor % s.mesh.pipeline != 0) s.mesh.pipeline = 1;
    s.mesh.data = ranks / s.mesh.tensor / s.mesh.pipeline;

    s.model = wide_model(dice.one_of<Family>({Family::gpt2, Family::llama}));
    if (dice.coin()) s.model.dropout = 0.0f;
    s.steps = 2;
    s.micro_batch = s.mesh.data < 8 && dice.coin() ? 2 : 1;
    if (s.mesh.pipeline > 1) {
        s.schedule =
            dice.one_of<std::string>({"gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v"});
        s.virtual_stages = s.schedule == "interleaved" || s.schedule == "zb-v" ? 2 : 1;
        const bool fits = s.mesh.pipeline * s.virtual_stages <= s.model.layers &&
                          s.global_batch / s.micro_batch / s.mesh.data % s.mesh.pipeline == 0;
        if (s.virtual_stages > 1 && !fits) {
            s.schedule = "1f1b";
            s.virtual_stages = 1;
        }
    }
    s.zero = dice.one_of<int>({0, 1, 2, 3});
    if (s.mesh.data >= 4 && s.zero > 0 && dice.coin()) s.data_shards = 2;
    s.overlap = dice.one_of<int>({0, 1, 1}) == 1;
    if (s.mesh.tensor > 1) {
        s.sequence_parallel = dice.coin();
        s.pieces = dice.one_of<int>({1, 2});
    }
    s.recompute.policy =
        dice.one_of<Recompute>({Recompute::none, Recompute::selective, Recompute::full});
    s.documents_apart = dice.one_of<int>({0, 0, 1}) == 1;
    drawn.ops = {.tune_matmul = dice.coin(), .deterministic = true};
    if (dice.coin()) drawn.graphs = GraphUse::always;
    if (s.mesh.data % 2 == 0 && dice.coin()) {
        s.mesh.context = 2;
        s.mesh.data /= 2;
    }
    return drawn;
}

void check(int number) {
    const Draw drawn = draw(number);
    INFO(std::to_string(number) + ": " + drawn.name());
    if (!enough_gpus(drawn.scenario.mesh.ranks())) return;
    const Curve want = train(on_one_rank(drawn.scenario));
    const Curve got = train_on_gpus(drawn.scenario, drawn.ops, drawn.graphs);
    CHECK(largest_difference(got.losses, want.losses) < 1e-4);
    CHECK(largest_difference(got.grad_norms, want.grad_norms) < 1e-3);
}

}  // namespace

TEST_CASE("however ranks share the work, GPUs give the curve of one CPU",
          "[gpu][training][nccl][long]") {
    check(GENERATE(range(0, 16)));
}

TEST_CASE("in many ways to share the work, GPUs give the curve of one CPU",
          "[gpu][training][nccl][slow]") {
    check(GENERATE(range(16, 200)));
}

}  // namespace trireme::test
