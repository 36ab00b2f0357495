#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "model/engine.h"
#include "tests/model/sleeping_device.h"
#include "tests/model/tensor_overlap_case.h"
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

// Of the cases that sleep: gives steps of some tenths of a second.
constexpr double kSleepingFlopsPerSecond = 80e9;

// Whole training steps: forward, backward, AdamW and the parameters' way back.
class TrainingStep final : public OverlapStep {
public:
    TrainingStep(World& world, OverlapCase::Parts parts, int zero, DType compute, bool sleeps)
        : parts_(parts),
          zero_(zero),
          device_(sleeps ? std::make_unique<SleepingDevice>(kSleepingFlopsPerSecond)
                         : make_device({.backend = Backend::cpu, .threads = 1}, 0, 1)),
          mesh_(world, {.tensor = 1, .context = 1, .data = world.size(), .pipeline = 1}, 1) {
        const ModelContext context{.device = *device_,
                                   .mesh = mesh_,
                                   .model = small_model(),
                                   .compute = compute,
                                   .batch = 4,
                                   .sequence = small_model().max_sequence_length,
                                   .seed = 1};
        EngineOptions options;
        options.data_parallel = {.zero = zero,
                                 .overlap = parts.overlap,
                                 .prefetch = parts.overlap ? kPrefetch : 0,
                                 .bucket_mib = 3.2};
        options.micro_batches = zero == 3 ? kMicroBatches : 1;
        engine_.emplace(context, options);
        if (zero == 3) take_staging(compute);
        for (int64_t i = 0; i < context.tokens(); ++i) {
            tokens_.push_back(static_cast<int32_t>(i * 7919 % context.model.vocab_size));
        }
    }

    void run() override {
        if (!parts_.compute) {
            if (zero_ == 3) {
                communicate_shards();
            } else {
                communicate();
            }
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

    // What a step of ZeRO-3 moves: the parameters of an attention or MLP part for each forward and
    // each backward, but for those still there where one turns to the other; a vocabulary matrix
    // once; and the gradients of each micro-batch.
    void communicate_shards() {
        Stream& stream = device_->compute();
        const ParameterStore& store = engine_->model().chunks().front()->store();
        std::vector<Event> events;
        for (int pass = 0; pass < 2 * kMicroBatches; ++pass) {
            int still_there = pass == 0 ? 0 : kPrefetch + 1;
            for (const FlatLayout::Bucket& bucket : store.layout().buckets) {
                if (bucket.is_whole) continue;
                const bool is_outsize =
                    store.specs()[static_cast<size_t>(bucket.parameters.front())].is_outsize;
                const auto part = [&](const Tensor& staging, bool own) {
                    const int64_t size = bucket.size / (own ? mesh_.data().size() : 1);
                    return staging.flat_range(own ? mesh_.data().rank() * size : 0, size);
                };
                if (is_outsize ? pass == 0 : still_there-- <= 0) {
                    events.push_back(mesh_.data().all_gather(
                        stream, part(values_, true), part(values_, false), "parameters alone"));
                }
                if (pass % 2 == 0) continue;
                events.push_back(mesh_.data().reduce_scatter(
                    stream, part(gradients_, false), part(gradients_, true), "gradients alone"));
            }
        }
        for (const Event& event : events) stream.wait(event);
    }

    void take_staging(DType compute) {
        const FlatLayout& layout = engine_->model().chunks().front()->store().layout();
        staging_.emplace(make_arena(*device_, "staging", [&](Arena& arena) {
            int64_t largest = 0;
            for (const FlatLayout::Bucket& bucket : layout.buckets) {
                largest = std::max(largest, bucket.size);
            }
            values_ = arena.take(compute, {largest});
            gradients_ = arena.take(DType::f32, {largest});
        }));
    }

    // Of ZeRO-3: some micro-batches, since each moves all gradients and begins and ends a turn.
    static constexpr int kMicroBatches = 2;
    static constexpr int kPrefetch = 4;

    const OverlapCase::Parts parts_;
    const int zero_;
    const std::unique_ptr<Device> device_;
    Mesh mesh_;
    std::optional<Engine> engine_;
    std::optional<Arena> staging_;
    Tensor values_, gradients_;
    std::vector<int32_t> tokens_;
    int64_t step_ = 0;
};

OverlapCase training_case(std::string name, int zero, DType compute, bool sleeps = false) {
    OverlapCase one;
    one.name = std::move(name);
    one.bytes = 3e7;
    one.bound = 1.25;
    one.has_switch = true;
    one.make = [=](World& world, OverlapCase::Parts parts) {
        return std::make_unique<TrainingStep>(world, parts, zero, compute, sleeps);
    };
    return one;
}

// The same on the tensor axis.
OverlapCase tensor_step_case(const std::string& name, DType compute, int64_t batch, int pieces,
                             bool sequence_parallel, bool sleeps) {
    TensorStepOptions options{.model = small_model(),
                              .compute = compute,
                              .batch = batch,
                              .pieces = pieces,
                              .sequence_parallel = sequence_parallel,
                              .flops_per_second = sleeps ? kSleepingFlopsPerSecond : 0.0};
    options.model.max_sequence_length = static_cast<int>(1024 / batch);
    if (!sleeps) {
        // Wider and less deep: messages large against what it takes to wake threads for them.
        options.model.layers = 6;
        options.model.hidden = 512;
        options.model.heads = options.model.kv_heads = 8;
        options.model.ffn_hidden = 2048;
    }
    return tensor_case(name, options);
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
    const std::string only = argc > 2 ? argv[2] : "";  // cases whose name begins so
    constexpr double kUnitMs = 10.0;
    const std::vector<OverlapCase> cases = {
        gradient_case(kUnitMs),
        training_case("data: asleep, ZeRO-1, bf16", 1, DType::bf16, true),
        training_case("data: asleep, ZeRO-1, fp32", 1, DType::f32, true),
        training_case("data: asleep, ZeRO-3, bf16", 3, DType::bf16, true),
        training_case("data: asleep, ZeRO-3, fp32", 3, DType::f32, true),
        training_case("data: steps of a GPT-2, ZeRO-1, bf16", 1, DType::bf16),
        training_case("data: steps of a GPT-2, ZeRO-1, fp32", 1, DType::f32),
        training_case("data: steps of a GPT-2, ZeRO-3, bf16", 3, DType::bf16),
        training_case("data: steps of a GPT-2, ZeRO-3, fp32", 3, DType::f32),
        tensor_step_case("asleep, 4 sequences", DType::f32, 4, 4, true, true),
        tensor_step_case("asleep, 1 sequence", DType::f32, 1, 4, true, true),
        tensor_step_case("asleep, 8 pieces", DType::f32, 8, 8, true, true),
        tensor_step_case("asleep, all-reduce", DType::f32, 4, 4, false, true),
        tensor_step_case("steps of a GPT-2, fp32", DType::f32, 4, 4, true, false),
        tensor_step_case("steps of a GPT-2, bf16", DType::bf16, 4, 4, true, false),
        schedule_case("1f1b", 1, kUnitMs),
        schedule_case("1f1b", 1, kUnitMs, 2),
        schedule_case("gpipe", 1, kUnitMs),
        schedule_case("interleaved", 2, kUnitMs),
        schedule_case("zb-h1", 1, kUnitMs),
        schedule_case("zb-h2", 1, kUnitMs),
        schedule_case("zb-v", 2, kUnitMs),
    };
    std::printf("%-40s %9s %9s %9s %9s %9s %7s %7s\n", "milliseconds a step", "compute", "comm.",
                "together", "apart", "MB/s", "ratio", "bound");
    for (const OverlapCase& one : cases) {
        if (one.name.starts_with(only)) print_row(one, measure(one, steps));
    }
    return 0;
}
