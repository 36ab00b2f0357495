#include "parallel/gradient_reducer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <initializer_list>
#include <random>
#include <thread>

#include "core/error.h"
#include "parallel/mesh.h"
#include "tests/core/expect.h"

using namespace trireme;
using trireme::test::expect;

namespace {

using Sharing = ParameterSpec::Sharing;

ParameterSpec parameter(int64_t rows, int64_t cols, Sharing sharing, bool own_bucket = false) {
    ParameterSpec spec;
    spec.global = {rows, cols};
    spec.box.size = {rows, cols};
    spec.sharing = sharing;
    spec.own_bucket = own_bucket;
    return spec;
}

// Odd sizes, each kind of sharing, own buckets at both ends, buckets with none, one and several
// partial gradients.
std::vector<ParameterSpec> sample_parameters() {
    std::vector<ParameterSpec> parameters = {
        parameter(5, 9, Sharing::none, true),     parameter(1, 7, Sharing::tensor_partial),
        parameter(3, 7, Sharing::none),           parameter(3, 5, Sharing::tensor_kv),
        parameter(3, 5, Sharing::tensor_kv),      parameter(1, 7, Sharing::tensor_partial),
        parameter(1, 3, Sharing::tensor),         parameter(7, 11, Sharing::none),
        parameter(1, 7, Sharing::tensor_partial), parameter(9, 4, Sharing::none, true)};
    parameters[4].adjoins_previous = true;
    return parameters;
}

// Small integers, so that sums are exact in any order.
float gradient_value(int rank, int step, int parameter, int64_t element) {
    return static_cast<float>((rank * 7 + step * 13 + parameter * 5 + element) % 101 - 50);
}

struct Case {
    MeshShape shape;
    int kv_groups = 1;
    int zero_stage = 0;
    bool overlap = true;
    int64_t bucket_elements = 32;
    DType wire = DType::f32;
    int shards = 0;  // among how many data ranks, the rest being replicas; 0: all

    DataParallelOptions options() const {
        return {.zero = zero_stage, .overlap = overlap, .gradient_wire = wire};
    }
};

GradientGroups groups_of(Mesh& mesh) {
    return {mesh.data(), mesh.data(), mesh.tensor(), mesh.tensor_kv()};
}

void check_case(World& world, const Case& c) {
    const auto device = make_device({Backend::cpu, 1}, 0, 1);
    Mesh mesh(world, c.shape, c.kv_groups);
    const std::vector<ParameterSpec> parameters = sample_parameters();
    const FlatLayout layout = plan_flat_layout(parameters, c.shape.data, c.bucket_elements);
    expect(layout.buckets.size() >= 3, "several buckets");
    Tensor gradients;
    const Arena arena = make_arena(*device, "gradients", [&](Arena& to) {
        gradients = to.take(DType::f32, {layout.elements});
    });
    GradientReducer reducer(*device, groups_of(mesh), {parameters, &layout, gradients},
                            c.options());
    std::mt19937 random(static_cast<unsigned>(world.rank()));

    for (int step = 0; step < 3; ++step) {
        device->ops().fill_zero(device->compute(), gradients);
        reducer.begin_step();
        for (int p = static_cast<int>(parameters.size()); p-- > 0;) {
            const ParameterSpec& spec = parameters[static_cast<size_t>(p)];
            float* to = gradients.as<float>() + layout.offsets[static_cast<size_t>(p)];
            for (int64_t e = 0; e < spec.stored_elements(); ++e) {
                to[e] = gradient_value(world.rank(), step, p, e);
            }
            if (random() % 3 == 0) std::this_thread::yield();
            reducer.parameter_ready(p);
        }
        // Still this rank's own: a held bucket has not started.
        const float* held = gradients.as<float>() + layout.offsets.back();
        for (int64_t e = 0; e < parameters.back().stored_elements(); ++e) {
            expect(held[e] == gradient_value(world.rank(), step, 9, e),
                   "a bucket to wait for its release");
        }
        // With overlap the sums over tensor are there before finish(), without it they are not.
        if (c.shape.data == 1 && c.shape.tensor > 1) {
            float sum = 0.0f;
            for (int tensor = 0; tensor < c.shape.tensor; ++tensor) {
                sum += gradient_value(tensor, step, 8, 0);
            }
            const float own = gradient_value(world.rank(), step, 8, 0);
            expect(gradients.as<float>()[layout.offsets[8]] == (c.overlap ? sum : own),
                   "buckets to start as they become complete exactly when asked to overlap");
        }
        reducer.release(9);
        if (step > 0) reducer.release(0);  // finish() starts what nobody released
        reducer.finish();

        const int shard = c.zero_stage == 0 ? kWholeLayout : mesh.data().rank();
        int64_t checked = 0;
        for_each_segment(layout, parameters, shard, [&](const FlatSegment& segment) {
            const Sharing sharing = parameters[static_cast<size_t>(segment.parameter)].sharing;
            const int per_kv_group = c.shape.tensor / c.kv_groups;
            for (int64_t i = 0; i < segment.flat.size; ++i) {
                const bool rounds = c.wire == DType::bf16 && c.shape.data > 1;
                float sum = 0.0f;
                for (int data = 0; data < c.shape.data; ++data) {
                    float part = 0.0f;
                    for (int tensor = 0; tensor < c.shape.tensor; ++tensor) {
                        const int own = mesh.at().tensor;
                        const bool adds = tensor == own || sharing == Sharing::tensor_partial ||
                                          (sharing == Sharing::tensor_kv &&
                                           tensor / per_kv_group == own / per_kv_group);
                        if (!adds) continue;
                        const int rank = rank_of(c.shape, {tensor, 0, data, mesh.at().pipeline});
                        part +=
                            gradient_value(rank, step, segment.parameter, segment.local.begin + i);
                    }
                    sum += rounds ? float{bf16(part)} : part;
                }
                if (rounds) sum = float{bf16(sum)};
                expect(gradients.as<float>()[segment.flat.begin + i] == sum,
                       "the sum of parameter " + std::to_string(segment.parameter) +
                           " to be exact on rank " + std::to_string(world.rank()));
                ++checked;
            }
        });
        expect(checked > 0, "a part of the gradients on every rank");
    }
}

// One rank's gradient of each parameter in turn, at each end, is not finite before the sums.
void check_origin(World& world, const Case& c) {
    const auto device = make_device({Backend::cpu, 1}, 0, 1);
    Mesh mesh(world, c.shape, c.kv_groups);
    const std::vector<ParameterSpec> parameters = sample_parameters();
    const int shards = c.shards > 0 ? c.shards : c.shape.data;
    const FlatLayout layout = plan_flat_layout(parameters, shards, c.bucket_elements);
    std::vector<float> memory(static_cast<size_t>(layout.elements));
    const Tensor gradients(memory.data(), DType::f32, {layout.elements});
    const auto shard = world.split(world.rank() / shards, world.rank(), "shard");
    const auto replicas = world.split(world.rank() % shards, world.rank(), "replicas");
    const bool is_split = shards != c.shape.data;
    const GradientGroups groups{mesh.data(), is_split ? *shard : mesh.data(), mesh.tensor(),
                                mesh.tensor_kv(), is_split ? replicas.get() : nullptr};
    GradientReducer reducer(*device, groups, {parameters, &layout, gradients}, c.options());
    for (int culprit = 0; culprit < world.size(); ++culprit) {
        for (int p = 0; p < static_cast<int>(parameters.size()); ++p) {
            for (const bool at_end : {false, true}) {
                std::fill(memory.begin(), memory.end(), 1.0f);
                const int64_t last = parameters[static_cast<size_t>(p)].stored_elements() - 1;
                const int64_t place =
                    layout.offsets[static_cast<size_t>(p)] + (at_end ? last : int64_t{0});
                if (world.rank() == culprit) memory[static_cast<size_t>(place)] = NAN;
                reducer.begin_step();
                reducer.finish();
                std::vector<int> expected;
                for (size_t b = 0; b < layout.buckets.size(); ++b) {
                    const auto& held = layout.buckets[b].parameters;
                    if (world.rank() == culprit && std::count(held.begin(), held.end(), p) > 0) {
                        expected.push_back(static_cast<int>(b));
                    }
                }
                expect(reducer.not_finite() == expected, "a NaN in parameter " + std::to_string(p) +
                                                             " of rank " + std::to_string(culprit) +
                                                             " to be found there alone, rank " +
                                                             std::to_string(world.rank()));
            }
        }
    }
}

void check_shapes(std::initializer_list<MeshShape> shapes) {
    for (const MeshShape& shape : shapes) {
        for (int zero_stage : {0, 1}) {
            for (bool overlap : {false, true}) {
                for (int64_t bucket_elements : {1, 32, 90}) {
                    Case c{shape, shape.tensor == 4 ? 2 : 1, zero_stage, overlap, bucket_elements};
                    CAPTURE(shape.to_string(), zero_stage, overlap, bucket_elements);
                    for (const DType wire : {DType::f32, DType::bf16}) {
                        c.wire = wire;
                        CAPTURE(name_of(wire));
                        REQUIRE_NOTHROW(run_thread_ranks(
                            shape.ranks(), [&](World& world) { check_case(world, c); }));
                    }
                }
            }
        }
    }
}

}  // namespace

TEST_CASE("what was not finite before the sums is found on its rank and in its bucket alone",
          "[parallel][reducer]") {
    const MeshShape shapes[] = {{1, 1, 3, 1}, {4, 1, 1, 1}, {4, 1, 2, 1}};
    for (const MeshShape& shape : shapes) {
        for (const int zero_stage : {0, 1}) {
            for (const DType wire : {DType::f32, DType::bf16}) {
                const Case c{shape, shape.tensor == 4 ? 2 : 1, zero_stage, true, 32, wire};
                CAPTURE(shape.to_string(), zero_stage, name_of(wire));
                REQUIRE_NOTHROW(
                    run_thread_ranks(shape.ranks(), [&](World& world) { check_origin(world, c); }));
            }
        }
    }
    for (const int shards : {1, 2}) {
        const Case c{{1, 1, 4, 1}, 1, 1, true, 32, DType::f32, shards};
        CAPTURE(shards);
        REQUIRE_NOTHROW(run_thread_ranks(4, [&](World& world) { check_origin(world, c); }));
    }
}

TEST_CASE("gradients are summed over the ranks that share them", "[parallel][reducer]") {
    check_shapes({{1, 1, 1, 1}, {1, 1, 3, 1}, {2, 1, 2, 1}});
}

TEST_CASE("gradients are summed over the ranks that share them on larger meshes",
          "[parallel][reducer][long]") {
    check_shapes({{4, 1, 1, 1}, {4, 1, 2, 1}, {2, 1, 2, 2}});
}

TEST_CASE("a reducer refuses to be told twice, or too late", "[parallel][reducer]") {
    run_thread_ranks(1, [&](World& world) {
        const auto device = make_device({Backend::cpu, 1}, 0, 1);
        Mesh mesh(world, {1, 1, 1, 1}, 1);
        const std::vector<ParameterSpec> parameters = sample_parameters();
        const FlatLayout layout = plan_flat_layout(parameters, 1, 32);
        std::vector<float> memory(static_cast<size_t>(layout.elements));
        const Tensor gradients(memory.data(), DType::f32, {layout.elements});
        GradientReducer reducer(*device, groups_of(mesh), {parameters, &layout, gradients},
                                {.zero = 0, .overlap = true});
        reducer.begin_step();
        reducer.parameter_ready(3);
        REQUIRE_THROWS_AS(reducer.parameter_ready(3), InternalError);
        REQUIRE_THROWS_AS(reducer.release(3), InternalError);
        reducer.release(0);
        REQUIRE_THROWS_AS(reducer.release(0), InternalError);
        reducer.finish();
        REQUIRE_THROWS_AS(reducer.parameter_ready(0), InternalError);
        reducer.begin_step();
        REQUIRE_NOTHROW(reducer.parameter_ready(3));
        REQUIRE(reducer.arena().used_bytes() == 0);
    });
}
