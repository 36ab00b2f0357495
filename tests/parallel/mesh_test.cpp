#include "parallel/mesh.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "core/device.h"
#include "core/error.h"
#include "tests/core/expect.h"

using namespace trireme;
using Catch::Matchers::Contains;
using trireme::test::expect;

namespace {

// World ranks of a communicator's members, in its order. Sums of small f32 integers are exact.
std::vector<int> members(Communicator& group, Device& device, int world_rank) {
    std::vector<float> memory(static_cast<size_t>(group.size()));
    const Tensor whole(memory.data(), DType::f32, {group.size()});
    const Tensor own = whole.flat_range(group.rank(), 1);
    *own.as<float>() = static_cast<float>(world_rank);
    device.compute().wait(group.all_gather(device.compute(), own, whole, "members"));
    return {memory.begin(), memory.end()};
}

// The ranks that agree with `rank` in all coordinates but those that `erase` makes equal.
template <typename Erase>
std::vector<int> expected_members(const MeshShape& shape, int rank, const Erase& erase) {
    const auto color = [&](int r) {
        MeshCoordinates at = coordinates_of(shape, r);
        erase(at);
        return rank_of(shape, at);
    };
    std::vector<int> found;
    for (int other = 0; other < shape.ranks(); ++other) {
        if (color(other) == color(rank)) found.push_back(other);
    }
    return found;
}

const MeshShape kShapes[] = {{1, 1, 1, 1}, {2, 1, 1, 1}, {1, 1, 3, 1}, {1, 1, 1, 3}, {2, 1, 2, 2},
                             {4, 1, 2, 1}, {1, 1, 2, 3}, {4, 1, 1, 2}, {2, 1, 1, 4}, {1, 3, 1, 1},
                             {2, 2, 2, 1}, {1, 2, 3, 2}, {2, 3, 1, 2}};

}  // namespace

TEST_CASE("mesh coordinates and ranks are each other's inverse", "[parallel][mesh]") {
    const MeshShape shape{2, 3, 4, 5};
    std::set<int> ranks;
    for (int rank = 0; rank < shape.ranks(); ++rank) {
        const MeshCoordinates at = coordinates_of(shape, rank);
        REQUIRE(at.tensor < 2);
        REQUIRE(at.context < 3);
        REQUIRE(at.data < 4);
        REQUIRE(at.pipeline < 5);
        REQUIRE(rank_of(shape, at) == rank);
        ranks.insert(rank_of(shape, at));
    }
    REQUIRE(ranks.size() == 120);
    // Tensor neighbours first, stages last.
    REQUIRE(rank_of(shape, {1, 0, 0, 0}) == 1);
    REQUIRE(rank_of(shape, {0, 1, 0, 0}) == 2);
    REQUIRE(rank_of(shape, {0, 0, 1, 0}) == 6);
    REQUIRE(rank_of(shape, {0, 0, 0, 1}) == 24);
    REQUIRE(shape.to_string() == "tensor 2 x context 3 x data 4 x pipeline 5");
    REQUIRE(MeshShape{2, 1, 4, 3}.to_string() == "tensor 2 x data 4 x pipeline 3");
}

TEST_CASE("the data axis is made of groups that share out state and of those that copy it",
          "[parallel][mesh]") {
    for (const MeshShape& shape : {MeshShape{1, 1, 4, 1}, MeshShape{2, 1, 4, 2},
                                   MeshShape{1, 2, 2, 2}, MeshShape{1, 2, 3, 1}}) {
        const auto place = [&](const MeshCoordinates& at) {
            return at.data * shape.context + at.context;
        };
        const auto go_to = [&](MeshCoordinates& at, int to) {
            at.data = to / shape.context;
            at.context = to % shape.context;
        };
        for (const int shards : {1, 2, 3, 4}) {
            if (shape.data_ranks() % shards != 0) continue;
            CAPTURE(shape.to_string(), shards);
            REQUIRE_NOTHROW(run_thread_ranks(shape.ranks(), [&](World& world) {
                const auto device = make_device({Backend::cpu, 1}, 0, 1);
                Mesh mesh(world, shape, shape.tensor, shards);
                const int rank = world.rank();
                expect(members(mesh.data_shard(), *device, rank) ==
                           expected_members(
                               shape, rank,
                               [&](MeshCoordinates& at) { go_to(at, place(at) / shards); }),
                       "neighbours to share out state");
                expect((mesh.data_replicas() != nullptr) == (shards < shape.data_ranks()),
                       "replicas if any");
                if (!mesh.data_replicas()) return;
                expect(members(*mesh.data_replicas(), *device, rank) ==
                           expected_members(
                               shape, rank,
                               [&](MeshCoordinates& at) { go_to(at, place(at) % shards); }),
                       "those at the same place to hold the same");
            }));
        }
    }
}

TEST_CASE("each axis joins the ranks that differ only along it", "[parallel][mesh]") {
    for (const MeshShape& shape : kShapes) {
        for (int kv_groups = 1; kv_groups <= shape.tensor; kv_groups *= 2) {
            CAPTURE(shape.to_string(), kv_groups);
            REQUIRE_NOTHROW(run_thread_ranks(shape.ranks(), [&](World& world) {
                const auto device = make_device({Backend::cpu, 1}, 0, 1);
                Mesh mesh(world, shape, kv_groups);
                const int rank = world.rank();
                const int per_kv_group = shape.tensor / kv_groups;
                const auto check = [&](Communicator& group, const auto& erase) {
                    expect(members(group, *device, rank) == expected_members(shape, rank, erase),
                           "the right members in group " + group.name());
                };
                check(mesh.all(), [](MeshCoordinates& at) { at = {}; });
                check(mesh.tensor(), [](MeshCoordinates& at) { at.tensor = 0; });
                check(mesh.tensor_kv(), [&](MeshCoordinates& at) {
                    at.tensor = at.tensor / per_kv_group * per_kv_group;
                });
                check(mesh.context(), [](MeshCoordinates& at) { at.context = 0; });
                check(mesh.data(), [](MeshCoordinates& at) { at.context = at.data = 0; });
                const auto no_stage = [](MeshCoordinates& at) { at.pipeline = 0; };
                check(mesh.pipeline_activations(), no_stage);
                check(mesh.pipeline_gradients(), no_stage);
                expect(mesh.pipeline_activations().rank() == mesh.at().pipeline,
                       "the pipeline's ranks to be its stages");

                const bool at_end =
                    mesh.at().pipeline == 0 || mesh.at().pipeline == shape.pipeline - 1;
                expect((mesh.embedding() != nullptr) == at_end, "embedding ranks at both ends");
                if (at_end) {
                    MeshCoordinates first = mesh.at(), last = mesh.at();
                    first.pipeline = 0;
                    last.pipeline = shape.pipeline - 1;
                    std::vector<int> ends = {rank_of(shape, first), rank_of(shape, last)};
                    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
                    expect(members(*mesh.embedding(), *device, rank) == ends,
                           "first and last stage in the embedding group");
                }
            }));
        }
    }
}

TEST_CASE("a mesh that does not multiply to the process count is refused", "[parallel][mesh]") {
    try {
        run_thread_ranks(3, [](World& world) { Mesh mesh(world, {2, 1, 2, 1}, 1); });
        FAIL("no error");
    } catch (const Error& error) {
        REQUIRE(error.code() == ExitCode::config);
        REQUIRE_THAT(error.what(), Contains("tensor 2 x data 2 x pipeline 1"));
        REQUIRE_THAT(error.what(), Contains("needs 4 processes, found 3"));
    }
}
