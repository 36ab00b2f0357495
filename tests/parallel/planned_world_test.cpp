#include "parallel/planned_world.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <tuple>

#include "core/error.h"
#include "core/planned_device.h"
#include "parallel/mesh.h"

namespace trireme::test {

namespace {

struct Case {
    MeshShape shape;
    int kv_groups = 1;
    int data_shards = 0;
};

// Name, size and place of each group; size 0: none.
using Groups = std::vector<std::tuple<std::string, int, int>>;

Groups groups_of(Mesh& mesh) {
    Groups groups;
    const auto add = [&](const Communicator* group) {
        if (group) {
            groups.emplace_back(group->name(), group->size(), group->rank());
        } else {
            groups.emplace_back("", 0, 0);
        }
    };
    for (const Communicator* group :
         {&mesh.all(), &mesh.tensor(), &mesh.tensor_kv(), &mesh.context(), &mesh.data(),
          &mesh.data_shard(), &mesh.pipeline_activations(), &mesh.pipeline_gradients()}) {
        add(group);
    }
    add(mesh.data_replicas());
    add(mesh.embedding());
    return groups;
}

}  // namespace

TEST_CASE("planned ranks are in the groups that real ranks are in", "[planned_world]") {
    const Case at = GENERATE(Case{{.tensor = 1, .context = 1, .data = 1, .pipeline = 1}, 1, 0},
                             Case{{.tensor = 2, .context = 1, .data = 2, .pipeline = 2}, 2, 0},
                             Case{{.tensor = 4, .context = 1, .data = 1, .pipeline = 2}, 2, 0},
                             Case{{.tensor = 1, .context = 1, .data = 6, .pipeline = 1}, 1, 2},
                             Case{{.tensor = 2, .context = 1, .data = 4, .pipeline = 1}, 1, 2},
                             Case{{.tensor = 2, .context = 3, .data = 2, .pipeline = 1}, 2, 3},
                             Case{{.tensor = 1, .context = 1, .data = 1, .pipeline = 5}, 1, 0});
    const auto make = [&](World& world) {
        return Mesh(world, at.shape, at.kv_groups, at.data_shards);
    };
    const PlannedRanks ranks(at.shape.ranks(), [&](World& world) { make(world); });
    std::vector<Groups> real(static_cast<size_t>(at.shape.ranks()));
    run_thread_ranks(at.shape.ranks(), [&](World& world) {
        Mesh mesh = make(world);
        real[static_cast<size_t>(world.rank())] = groups_of(mesh);
    });
    for (int rank = 0; rank < at.shape.ranks(); ++rank) {
        const std::unique_ptr<World> world = ranks.world_of(rank);
        Mesh mesh = make(*world);
        CAPTURE(at.shape.to_string(), rank);
        CHECK(groups_of(mesh) == real[static_cast<size_t>(rank)]);
    }
}

TEST_CASE("nothing is sent or computed in a plan", "[planned_world]") {
    const PlannedRanks ranks(2, [](World& world) { world.split(0, world.rank(), "all"); });
    const std::unique_ptr<World> world = ranks.world_of(1);
    const std::unique_ptr<Communicator> all = world->split(0, 1, "all");
    PlannedDevice device(Backend::cpu);
    CHECK_THROWS_AS(all->barrier(), InternalError);
    CHECK_THROWS_AS(all->all_reduce(device.compute(), Tensor(), ReduceOp::sum, "x"), InternalError);
    CHECK_THROWS_AS(device.ops(), InternalError);
    CHECK_FALSE(device.keeps_values());
    // Splits in another order than the planned one.
    CHECK_THROWS_AS(ranks.world_of(0)->split(1, 0, "all"), InternalError);
}

TEST_CASE("planned memory has labels and sizes, and addresses that do not overlap",
          "[planned_world]") {
    PlannedDevice device(Backend::cuda);
    char* one = static_cast<char*>(device.allocate(size_t{3} << 40, "parameters"));
    char* two = static_cast<char*>(device.allocate(100, "inputs"));
    device.allocate(28, "inputs");
    CHECK(two >= one + (size_t{3} << 40));
    CHECK(device.held_bytes() ==
          std::map<std::string, size_t>{{"parameters", size_t{3} << 40}, {"inputs", 128}});
    device.release(one);
    CHECK(device.allocated_bytes() == 128);
}

}  // namespace trireme::test
