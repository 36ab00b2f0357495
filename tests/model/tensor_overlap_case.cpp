#include "tests/model/tensor_overlap_case.h"

#include <optional>
#include <vector>

#include "model/engine.h"
#include "tests/model/sleeping_device.h"

namespace trireme::testing {

namespace {

class TensorStep final : public OverlapStep {
public:
    TensorStep(World& world, OverlapCase::Parts parts, const TensorStepOptions& options)
        : device_(device_of(parts, options)),
          mesh_(world, {.tensor = world.size(), .context = 1, .data = 1, .pipeline = 1},
                kv_groups(options.model, world.size())) {
        const ModelContext context{.device = *device_,
                                   .mesh = mesh_,
                                   .model = options.model,
                                   .compute = options.compute,
                                   .sequence_parallel = options.sequence_parallel,
                                   .batch = options.batch,
                                   .sequence = options.model.max_sequence_length,
                                   .seed = 1,
                                   .pieces = parts.overlap ? options.pieces : 1,
                                   .overlap_tensor = parts.overlap};
        engine_.emplace(context, EngineOptions{});
        for (int64_t i = 0; i < context.tokens(); ++i) {
            tokens_.push_back(static_cast<int32_t>(i * 7919 % context.model.vocab_size));
        }
    }

    void run() override {
        engine_->step(++step_, 1e-4, [&](int) { return HostMicroBatch{tokens_, tokens_, 0}; });
    }

private:
    static std::unique_ptr<Device> device_of(OverlapCase::Parts parts,
                                             const TensorStepOptions& options) {
        if (!parts.compute) return std::make_unique<SleepingDevice>(0.0);
        if (options.flops_per_second > 0.0) {
            return std::make_unique<SleepingDevice>(options.flops_per_second);
        }
        return make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    }

    const std::unique_ptr<Device> device_;
    Mesh mesh_;
    std::optional<Engine> engine_;
    std::vector<int32_t> tokens_;
    int64_t step_ = 0;
};

}  // namespace

OverlapCase tensor_case(const std::string& name, const TensorStepOptions& options) {
    const ModelOptions& model = options.model;
    OverlapCase one;
    one.name = "tensor: " + name;
    one.axis = MeshAxis::tensor;
    // Ten exchanges a layer, or four whose sums go both ways.
    const double exchanges = options.sequence_parallel ? 10.0 : 8.0;
    one.bytes = exchanges * model.layers * 0.5 * static_cast<double>(size_of(options.compute)) *
                static_cast<double>(options.batch * model.max_sequence_length * model.hidden);
    one.bound = 1.35;
    one.has_switch = true;
    one.make = [options](World& world, OverlapCase::Parts parts) {
        return std::make_unique<TensorStep>(world, parts, options);
    };
    return one;
}

}  // namespace trireme::testing
