#include <optional>
#include <string>
#include <vector>

#include "tests/gpu/gpu_ranks.h"
#include "tests/model/training_support.h"

#ifdef TRIREME_CUDA_EMULATED

#include "tests/cuda_emulation/emulation.h"

namespace trireme::test {

namespace {

// Operations of a few bytes connect the ranks and keep barriers.
constexpr size_t kSmall = 4096;

void train_on_gpus(const Scenario& scenario) {
    run_gpu_ranks(scenario.mesh.ranks(), [&](World& world, CudaDevice& device) {
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        Engine engine(context_of(scenario, device, mesh), engine_options_of(scenario));
        run_steps(engine, scenario, 1, scenario.steps);
    });
}

}  // namespace

TEST_CASE("what all axes move lies in registered memory", "[gpu][comm][registration]") {
    struct Case {
        MeshShape mesh;
        int zero;
        DType wire;
        std::vector<std::string> groups;
        bool sequence_parallel = true;
    };
    const std::string to_next = "pipeline_activations", to_previous = "pipeline_gradients";
    const Case test = GENERATE_COPY(
        Case{{.data = 2, .pipeline = 2}, 0, DType::f32, {"data", to_next, to_previous}},
        Case{{.data = 2}, 0, DType::bf16, {"data"}}, Case{{.data = 2}, 1, DType::f32, {"data"}},
        Case{{.data = 2}, 1, DType::bf16, {"data"}},
        Case{{.data = 2, .pipeline = 2}, 2, DType::f32, {"data", to_next, to_previous}},
        Case{{.tensor = 2, .data = 2}, 3, DType::bf16, {"data", "tensor"}},
        Case{{.tensor = 2, .pipeline = 2}, 0, DType::f32, {"tensor", to_next, to_previous}},
        Case{{.tensor = 2, .data = 2}, 2, DType::f32, {"data", "tensor"}, false},
        Case{{.tensor = 4}, 1, DType::f32, {"tensor", "tensor_kv"}},
        Case{{.tensor = 4, .data = 2}, 2, DType::f32, {"data", "tensor", "tensor_kv"}});
    Scenario scenario;
    // Four tensor ranks: two of them for each key/value head.
    scenario.model = test.mesh.tensor > 2 ? wide_model(Family::llama) : odd_model(Family::llama);
    scenario.mesh = test.mesh;
    scenario.global_batch = 4;
    scenario.steps = 2;
    scenario.zero = test.zero;
    scenario.gradient_wire = test.wire;
    scenario.sequence_parallel = test.sequence_parallel;
    scenario.pieces = test.mesh.tensor == 2 ? 2 : 1;
    CAPTURE(scenario.name());
    cuda_emulation::take_nccl_traffic();
    REQUIRE_NOTHROW(train_on_gpus(scenario));
    const auto traffic = cuda_emulation::take_nccl_traffic();
    for (const std::string& name : test.groups) {
        INFO(name);
        const auto found = traffic.find(name);
        REQUIRE(found != traffic.end());
        CHECK(found->second.other < kSmall);
        CHECK(found->second.registered > kSmall);
    }
    CHECK(cuda_emulation::nccl_registrations() == 0);
}

TEST_CASE("a group forgets registered memory once, whatever ends first",
          "[gpu][comm][registration]") {
    const bool group_first = GENERATE(true, false);
    REQUIRE_NOTHROW(run_gpu_ranks(2, [&](World& world, CudaDevice& device) {
        std::optional<Array<float>> buffer(std::in_place, device, int64_t{1000});
        auto group = world.split(0, world.rank(), "data");
        group->register_memory(buffer->get());
        group->register_memory(buffer->get());
        group->register_memory(buffer->get().flat_range(100, 500));  // known already
        group->register_memory(Tensor());
        group->barrier();
        expect(cuda_emulation::nccl_registrations() == 2, "one registration on each rank");
        group->barrier();
        // Under way when the first of both ends.
        group->all_reduce(device.compute(), buffer->get(), ReduceOp::sum, "registered");
        if (group_first) {
            group.reset();
        } else {
            buffer.reset();
        }
    }));
    CHECK(cuda_emulation::nccl_registrations() == 0);
}

}  // namespace trireme::test

#endif
