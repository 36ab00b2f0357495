#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "parallel/gradient_sharder.h"
#include "parallel/mesh.h"
#include "parallel/parameter_gatherer.h"
#include "tests/core/expect.h"

// Gradients reduced to shards and parameters gathered from them, with made-up layers.

using namespace trireme;
using trireme::test::expect;

namespace {

using Sharing = ParameterSpec::Sharing;

template <typename Call>
bool is_refused(const Call& call) {
    try {
        call();
    } catch (const InternalError&) {
        return true;
    }
    return false;
}

ParameterSpec parameter(int64_t rows, int64_t cols, Sharing sharing = Sharing::none) {
    ParameterSpec spec;
    spec.global = {rows, cols};
    spec.box.size = {rows, cols};
    spec.sharing = sharing;
    return spec;
}

ParameterSpec norm(Sharing sharing) {
    ParameterSpec spec = parameter(1, 7, sharing);
    spec.keep_whole = true;
    return spec;
}

// A vocabulary matrix and positions, two layers of two halves, some key/value heads shared.
std::vector<ParameterSpec> sample_parameters() {
    std::vector<ParameterSpec> parameters = {
        parameter(41, 9), parameter(3, 9, Sharing::tensor_partial), norm(Sharing::tensor_partial),
        parameter(7, 9),  parameter(3, 9, Sharing::tensor_kv),      norm(Sharing::tensor),
        parameter(5, 11), parameter(1, 5, Sharing::tensor),         norm(Sharing::tensor_partial),
        parameter(7, 9),  parameter(3, 9, Sharing::tensor_kv),      norm(Sharing::tensor_partial),
        parameter(5, 11)};
    parameters[0].own_bucket = true;
    parameters[0].is_outsize = true;
    parameters[4].adjoins_previous = true;
    return parameters;
}

// Small integers, so that sums are exact in any order.
float gradient_value(int rank, int micro_batch, int parameter, int64_t element) {
    return static_cast<float>((rank * 7 + micro_batch * 13 + parameter * 5 + element) % 101 - 50);
}

constexpr int kMicroBatches = 5;

void check_gradients(World& world, const MeshShape& shape, int kv_groups, DType wire,
                     bool overlap) {
    const auto device = make_device({Backend::cpu, 1}, 0, 1);
    Mesh mesh(world, shape, kv_groups);
    const std::vector<ParameterSpec> parameters = sample_parameters();
    const FlatLayout layout = plan_flat_layout_by_unit(parameters, shape.data);
    std::vector<float> memory(static_cast<size_t>(layout.shard_elements()) + 16);
    const Tensor accumulated(memory.data(), DType::f32, {layout.shard_elements()});
    const GradientGroups groups{mesh.data(), mesh.data(), mesh.tensor(), mesh.tensor_kv()};
    GradientSharder sharder(*device, groups, {{parameters, &layout, accumulated}},
                            {.zero = 2, .overlap = overlap, .gradient_wire = wire});
    for (int step = 0; step < 2; ++step) {
        device->ops().fill_zero(device->compute(), accumulated);
        sharder.begin_step();
        for (int micro_batch = 0; micro_batch < kMicroBatches; ++micro_batch) {
            for (size_t b = 0; b < layout.buckets.size(); ++b) {
                const FlatLayout::Bucket& bucket = layout.buckets[b];
                const int number = static_cast<int>(b);
                if (!bucket.is_whole) {
                    sharder.open(0, number);
                    sharder.open(0, number);
                }
                const Tensor to = bucket.is_whole ? accumulated : sharder.staging(0, number);
                for (const int p : bucket.parameters) {
                    float* values =
                        to.as<float>() + layout.offsets[static_cast<size_t>(p)] - bucket.begin;
                    const int64_t n = parameters[static_cast<size_t>(p)].stored_elements();
                    for (int64_t e = 0; e < n; ++e) {
                        values[e] += gradient_value(world.rank(), micro_batch + step, p, e);
                    }
                }
                if (bucket.is_whole) continue;
                sharder.close(0, number);
                expect(is_refused([&] { sharder.staging(0, number); }), "a closed bucket");
            }
        }
        sharder.finish();

        const int per_kv_group = shape.tensor / kv_groups;
        for_each_segment(layout, parameters, mesh.data().rank(), [&](const FlatSegment& segment) {
            const ParameterSpec& spec = parameters[static_cast<size_t>(segment.parameter)];
            const bool rounds = wire == DType::bf16 && shape.data > 1 && !spec.keep_whole;
            for (int64_t i = 0; i < segment.compact.size; ++i) {
                float sum = 0.0f;
                for (int rank = 0; rank < shape.ranks(); ++rank) {
                    const int tensor = coordinates_of(shape, rank).tensor;
                    const int own = mesh.at().tensor;
                    const bool adds = tensor == own || spec.sharing == Sharing::tensor_partial ||
                                      (spec.sharing == Sharing::tensor_kv &&
                                       tensor / per_kv_group == own / per_kv_group);
                    for (int m = 0; adds && m < kMicroBatches; ++m) {
                        sum += gradient_value(rank, m + step, segment.parameter,
                                              segment.local.begin + i);
                    }
                }
                const float found = memory[static_cast<size_t>(segment.compact.begin + i)];
                expect(rounds ? std::abs(found - sum) < 8.0f : found == sum,
                       "the sum of parameter " + std::to_string(segment.parameter) + " on rank " +
                           std::to_string(world.rank()));
            }
        });
        expect(sharder.not_finite(0).empty(), "only finite gradients");
        mesh.all().barrier();
    }
    // A NaN is everywhere after the sums, but was of one rank's making.
    sharder.begin_step();
    const int whole = static_cast<int>(layout.buckets.size()) - 1;
    expect(layout.buckets.back().is_whole, "the last bucket to be the whole one");
    sharder.open(0, 1);
    if (world.rank() == 1) {
        sharder.staging(0, 1).as<float>()[3] = std::nanf("");
        accumulated.as<float>()[0] = std::nanf("");
    }
    sharder.close(0, 1);
    sharder.finish();
    expect(sharder.not_finite(0) ==
               (world.rank() == 1 ? std::vector<int>{1, whole} : std::vector<int>()),
           "the rank and the bucket that a NaN came from");
    mesh.all().barrier();
    for (size_t i = memory.size() - 16; i < memory.size(); ++i) {
        expect(memory[i] == 0.0f, "nothing behind the shard");
    }
}

// Every bucket holds its number, so that a use sees which it got.
struct Gathering {
    Gathering(World& world, int prefetch)
        : device(make_device({Backend::cpu, 1}, 0, 1)),
          mesh(world, {1, 1, world.size(), 1}, 1),
          parameters(sample_parameters()),
          layout(plan_flat_layout_by_unit(parameters, world.size())),
          memory(static_cast<size_t>(layout.shard_elements())) {
        fill(0);
        gatherer.emplace(
            *device, mesh.data(),
            std::vector<ShardedParameters>{
                {&layout, Tensor(memory.data(), DType::f32, {layout.shard_elements()})}},
            prefetch);
    }

    void fill(int base) {
        for (size_t b = 0; b < layout.buckets.size(); ++b) {
            const FlatLayout::Range own = layout.compact_range(layout.buckets[b]);
            for (int64_t i = own.begin; i < own.begin + own.size; ++i) {
                memory[static_cast<size_t>(i)] = value(base, b, mesh.data().rank());
            }
        }
    }
    static float value(int base, size_t bucket, int rank) {
        return static_cast<float>(base + static_cast<int>(bucket) * 10 + rank);
    }

    void use(BucketUse which, int base) {
        gatherer->acquire(which);
        const Tensor whole = gatherer->whole(which);
        const FlatLayout::Bucket& bucket = layout.buckets[static_cast<size_t>(which.bucket)];
        expect(whole.elements() == bucket.size, "the whole bucket");
        const int64_t shard = bucket.size / layout.shards;
        for (int64_t i = 0; i < bucket.size; ++i) {
            expect(whole.as<float>()[i] ==
                       value(base, static_cast<size_t>(which.bucket), static_cast<int>(i / shard)),
                   "the shards of bucket " + std::to_string(which.bucket));
        }
        gatherer->release(which);
        expect(is_refused([&] { gatherer->whole(which); }), "a released bucket");
    }

    std::unique_ptr<Device> device;
    Mesh mesh;
    std::vector<ParameterSpec> parameters;
    FlatLayout layout;
    std::vector<float> memory;
    std::optional<ParameterGatherer> gatherer;
};

// Two micro-batches forward, back, and computing a layer again, as buckets of sample_parameters:
// 5 and 4 are the ends, 3..0 the halves of layers from the first on.
std::vector<BucketUse> sample_uses() {
    std::vector<BucketUse> uses;
    for (const int bucket :
         {5, 4, 3, 2, 1, 0, 5, 4, 3, 2, 1, 0, 0, 1, 3, 2, 2, 3, 5, 0, 1, 2, 3, 5, 5}) {
        uses.push_back({0, bucket});
    }
    return uses;
}

}  // namespace

TEST_CASE("sharded gradients are summed over the ranks that share them", "[parallel][sharding]") {
    const MeshShape shapes[] = {{1, 1, 1, 1}, {1, 1, 2, 1}, {1, 1, 3, 1},
                                {2, 1, 2, 1}, {4, 1, 2, 1}, {2, 1, 2, 2}};
    for (MeshShape shape : shapes) {
        for (const DType wire : {DType::f32, DType::bf16}) {
            for (const bool overlap : {true, false}) {
                // Stages do not share gradients.
                if (shape.pipeline > 1) shape.pipeline = 1;
                CAPTURE(shape.to_string(), name_of(wire), overlap);
                REQUIRE_NOTHROW(run_thread_ranks(shape.ranks(), [&](World& world) {
                    check_gradients(world, shape, shape.tensor == 4 ? 2 : 1, wire, overlap);
                }));
            }
        }
    }
}

TEST_CASE("gathered parameters are there when they are used, and again after they have changed",
          "[parallel][sharding]") {
    const std::vector<BucketUse> uses = sample_uses();
    for (const int ranks : {1, 2, 3}) {
        for (const int prefetch : {0, 1, 2, 3, 100}) {
            CAPTURE(ranks, prefetch);
            REQUIRE_NOTHROW(run_thread_ranks(ranks, [&](World& world) {
                Gathering g(world, prefetch);
                for (int step = 0; step < 3; ++step) {
                    g.gatherer->begin(uses);
                    for (const BucketUse& use : uses) g.use(use, step);
                    g.gatherer->begin(uses);  // under way when the parameters change
                    g.gatherer->forget();
                    g.fill(step + 1);
                }
                g.mesh.all().barrier();
            }));
        }
    }
}

TEST_CASE("a bucket that is still there is not gathered again", "[parallel][sharding]") {
    const std::vector<BucketUse> uses = sample_uses();
    run_thread_ranks(2, [&](World& world) {
        const auto gathers = [&](int prefetch) {
            Gathering g(world, prefetch);
            g.gatherer->begin(uses);
            for (const BucketUse& use : uses) g.use(use, 0);
            return g.gatherer->n_gathers();
        };
        // The vocabulary matrix (5) and the other buckets have buffers of their own kinds.
        expect(gathers(100) == 6, "every bucket once where there is room for all");
        // Which nothing can beat: with one buffer only what is used twice in a row stays.
        expect(gathers(0) == 19, "no gather of what is there, found " + std::to_string(gathers(0)));
        expect(gathers(2) < gathers(0), "fewer gathers with more room");
    });
}

TEST_CASE("gathers run ahead of the bucket in use", "[parallel][sharding]") {
    run_thread_ranks(1, [&](World& world) {
        const std::vector<BucketUse> uses = sample_uses();
        Gathering g(world, 2);
        g.gatherer->begin(uses);
        expect(g.gatherer->n_gathers() == 2, "the first two before the pass");
        g.use({0, 5}, 0);
        expect(g.gatherer->n_gathers() == 3, "two ahead of the first");
        g.use({0, 4}, 0);
        expect(g.gatherer->n_gathers() == 4, "two ahead of the second");
    });
}

TEST_CASE("a gatherer refuses what was not announced and what was not acquired",
          "[parallel][sharding]") {
    run_thread_ranks(1, [&](World& world) {
        const std::vector<BucketUse> uses = sample_uses();
        Gathering g(world, 2);
        REQUIRE_THROWS_AS(g.gatherer->acquire({0, 5}), InternalError);
        g.gatherer->begin(uses);
        REQUIRE_THROWS_AS(g.gatherer->acquire({0, 3}), InternalError);
        REQUIRE_THROWS_AS(g.gatherer->whole({0, 5}), InternalError);
        g.gatherer->acquire({0, 5});
        REQUIRE_THROWS_AS(g.gatherer->forget(), InternalError);
        const std::vector<BucketUse> whole = {{0, 6}};
        g.gatherer->release({0, 5});
        REQUIRE_THROWS_AS((g.gatherer->begin(whole), g.gatherer->acquire({0, 6})), InternalError);
    });
}
