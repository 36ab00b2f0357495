#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "model/engine.h"
#include "tests/parallel/overlap_cases.h"

// What a step hides of its communication: see scripts/bench-overlap.

namespace trireme::testing {
namespace {

// A GPT-2 small enough that communication at a few hundred MB/s takes as long as its step. In bf16
// the gradients' way takes two thirds of the communication and the parameters' a third, like
// backward and forward of the compute.
ModelOptions small_model() {
    ModelOptions model;
    model.family = Family::gpt2;
    model.layers = 10;
    model.hidden = 256;
    model.heads = 4;
    model.kv_heads = 4;
    model.head_dim = 64;
    model.ffn_hidden = 1024;
    model.vocab_size = 512;
    model.max_sequence_length = 256;
    model.tie_embeddings = true;
    return model;
}

// Whole training steps: forward, backward, AdamW and the parameters' way back.
class TrainingStep final : public OverlapStep {
public:
    TrainingStep(World& world, OverlapCase::Parts parts, int zero, DType compute)
        : parts_(parts),
          device_(make_device({.backend = Backend::cpu, .threads = 1}, 0, 1)),
          mesh_(world, {.tensor = 1, .context = 1, .data = world.size(), .pipeline = 1}, 1) {
        const ModelContext context{.device = *device_,
                                   .mesh = mesh_,
                                   .model = small_model(),
                                   .compute = compute,
                                   .batch = 4,
                                   .sequence = small_model().max_sequence_length,
                                   .seed = 1};
        EngineOptions options;
        options.data_parallel = {.zero = zero, .overlap = parts.overlap, .bucket_mb = 3.2};
        engine_.emplace(context, options);
        for (int64_t i = 0; i < context.tokens(); ++i) {
            tokens_.push_back(static_cast<int32_t>(i * 7919 % context.model.vocab_size));
        }
    }

    void run() override {
        if (!parts_.compute) {
            communicate();
            return;
        }
        engine_->step(++step_, 1e-4, [&](int) { return HostMicroBatch{tokens_, tokens_, 0}; });
    }

private:
    // What a step of ZeRO-1 moves, bucket by bucket.
    void communicate() {
        Stream& stream = device_->compute();
        std::vector<Event> events;
        for (auto& chunk : engine_->model().chunks()) {
            ParameterStore& store = chunk->store();
            for (const FlatLayout::Bucket& bucket : store.layout().buckets) {
                const FlatLayout::Range own = store.layout().shard_of(bucket, mesh_.data().rank());
                events.push_back(mesh_.data().reduce_scatter(
                    stream, store.gradients().flat_range(bucket.begin, bucket.size),
                    store.gradients().flat_range(own.begin, own.size), "gradients alone"));
                events.push_back(mesh_.data().all_gather(
                    stream, store.parameters().flat_range(own.begin, own.size),
                    store.parameters().flat_range(bucket.begin, bucket.size), "parameters alone"));
            }
        }
        for (const Event& event : events) stream.wait(event);
    }

    const OverlapCase::Parts parts_;
    const std::unique_ptr<Device> device_;
    Mesh mesh_;
    std::optional<Engine> engine_;
    std::vector<int32_t> tokens_;
    int64_t step_ = 0;
};

OverlapCase training_case(std::string name, int zero, DType compute) {
    OverlapCase one;
    one.name = std::move(name);
    one.bytes = 3e7;
    one.bound = 1.25;
    one.has_switch = true;
    one.make = [=](World& world, OverlapCase::Parts parts) {
        return std::make_unique<TrainingStep>(world, parts, zero, compute);
    };
    return one;
}

void print_row(const OverlapCase& one, const OverlapTimes& t) {
    char apart[32] = "no switch";
    if (one.has_switch) std::snprintf(apart, sizeof(apart), "%.1f", t.apart * 1e3);
    std::printf("%-40s %9.1f %9.1f %9.1f %9s %9.1f %7.2f %7.2f\n", one.name.c_str(),
                t.compute * 1e3, t.communication * 1e3, t.together * 1e3, apart,
                t.bandwidth_mb_per_s, t.ratio(), one.bound);
    std::fflush(stdout);
}

}  // namespace
}  // namespace trireme::testing

int main(int argc, char** argv) {
    using namespace trireme;
    using namespace trireme::testing;
    const int steps = argc > 1 ? std::atoi(argv[1]) : 5;
    constexpr double kUnitMs = 10.0;
    const std::vector<OverlapCase> cases = {
        gradient_case(kUnitMs),
        training_case("data: steps of a GPT-2, ZeRO-1, bf16", 1, DType::bf16),
        training_case("data: steps of a GPT-2, ZeRO-1, fp32", 1, DType::f32),
        schedule_case("1f1b", 1, kUnitMs),
        deep_one_forward_one_backward_case(kUnitMs),
        schedule_case("gpipe", 1, kUnitMs),
        schedule_case("interleaved", 2, kUnitMs),
        schedule_case("zb-h1", 1, kUnitMs),
        schedule_case("zb-h2", 1, kUnitMs),
        schedule_case("zb-v", 2, kUnitMs),
    };
    std::printf("%-40s %9s %9s %9s %9s %9s %7s %7s\n", "milliseconds a step", "compute", "comm.",
                "together", "apart", "MB/s", "ratio", "bound");
    for (const OverlapCase& one : cases) print_row(one, measure(one, steps));
    return 0;
}
