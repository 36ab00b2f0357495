#include "parallel/mesh.h"

#include "core/error.h"
#include "parallel/forwarding_world.h"

namespace trireme {

std::string MeshShape::to_string() const {
    std::string text = "tensor " + std::to_string(tensor);
    if (context > 1) text += " x context " + std::to_string(context);
    return text + " x data " + std::to_string(data) + " x pipeline " + std::to_string(pipeline);
}

MeshCoordinates coordinates_of(const MeshShape& shape, int rank) {
    MeshCoordinates at;
    at.tensor = rank % shape.tensor;
    rank /= shape.tensor;
    at.context = rank % shape.context;
    rank /= shape.context;
    at.data = rank % shape.data;
    at.pipeline = rank / shape.data;
    return at;
}

int rank_of(const MeshShape& shape, const MeshCoordinates& at) {
    return ((at.pipeline * shape.data + at.data) * shape.context + at.context) * shape.tensor +
           at.tensor;
}

namespace {

// A rank's place in the group data(), and the rank at another place of it.
int data_place(const MeshShape& shape, const MeshCoordinates& at) {
    return at.data * shape.context + at.context;
}
int rank_at_data_place(const MeshShape& shape, MeshCoordinates at, int place) {
    at.data = place / shape.context;
    at.context = place % shape.context;
    return rank_of(shape, at);
}

// Puts the waits for each group it makes down to the group's axis.
class LedgerWorld final : public ForwardingWorld {
public:
    LedgerWorld(World& world, WaitLedger& waits) : ForwardingWorld(world), waits_(waits) {}

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override {
        auto group = ForwardingWorld::split(color, key, name, use);
        if (group) group->put_waits_down_to(waits_.of(name));
        return group;
    }

private:
    WaitLedger& waits_;
};

}  // namespace

Mesh::Mesh(World& ranks, const MeshShape& shape, int kv_groups, int data_shards)
    : world_(ranks), shape_(shape) {
    // All groups below are made through it.
    LedgerWorld ledger_world(ranks, waits_);
    World& world = ledger_world;
    if (shape.ranks() != world.size()) {
        throw Error(ExitCode::config, "mesh: " + shape.to_string() + " needs " +
                                          std::to_string(shape.ranks()) + " processes, found " +
                                          std::to_string(world.size()) +
                                          "; start that many (mpirun -n " +
                                          std::to_string(shape.ranks()) + ") or change mesh");
    }
    TRIREME_CHECK(kv_groups >= 1 && shape.tensor % kv_groups == 0,
                  "key/value groups to divide the tensor axis");
    if (data_shards == 0) data_shards = shape.data_ranks();
    TRIREME_CHECK(data_shards > 0 && shape.data_ranks() % data_shards == 0,
                  "the data group to be made of whole groups of shards");
    const int rank = world.rank();
    at_ = coordinates_of(shape, rank);
    // The first rank of a group stands for it.
    const auto group_of = [&](int MeshCoordinates::*axis) {
        MeshCoordinates first = at_;
        first.*axis = 0;
        return rank_of(shape, first);
    };
    const int tensor_group = group_of(&MeshCoordinates::tensor);
    const int ranks_per_kv_group = shape.tensor / kv_groups;

    all_ = world.split(0, rank, "all");
    tensor_ = world.split(tensor_group, rank, "tensor");
    tensor_kv_ = world.split(tensor_group + at_.tensor / ranks_per_kv_group, rank, "tensor_kv");
    context_ = world.split(group_of(&MeshCoordinates::context), rank, "context");
    data_ = world.split(rank_at_data_place(shape, at_, 0), rank, "data");
    if (data_shards < shape.data_ranks()) {
        const int place = data_place(shape, at_);
        const int shard = place % data_shards;
        data_shard_ =
            world.split(rank_at_data_place(shape, at_, place - shard), rank, "data_shard");
        data_replicas_ = world.split(rank_at_data_place(shape, at_, shard), rank, "data_replicas");
    }
    const int pipeline_group = group_of(&MeshCoordinates::pipeline);
    pipeline_activations_ =
        world.split(pipeline_group, rank, "pipeline_activations", GroupUse::neighbours);
    pipeline_gradients_ =
        world.split(pipeline_group, rank, "pipeline_gradients", GroupUse::neighbours);
    const bool at_end = at_.pipeline == 0 || at_.pipeline == shape.pipeline - 1;
    embedding_ = world.split(at_end ? pipeline_group : -1, rank, "embedding");
}

}  // namespace trireme
