#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "parallel/wait_ledger.h"

namespace trireme {

// Sizes of the device mesh. Rank order from fastest to slowest: tensor, context, data, pipeline,
// so that tensor neighbours share a node.
struct MeshShape {
    int tensor = 1;
    int context = 1;  // ranks that share a micro-batch
    int data = 1;     // 0 in a configuration: what is left over
    int pipeline = 1;

    int ranks() const { return tensor * context * data * pipeline; }
    // Of the group data(): the axes data and context as one.
    int data_ranks() const { return data * context; }
    std::string to_string() const;  // "tensor 2 x data 2 x pipeline 2"
    bool operator==(const MeshShape&) const = default;
};

struct MeshCoordinates {
    int tensor = 0;
    int context = 0;
    int data = 0;
    int pipeline = 0;
};

MeshCoordinates coordinates_of(const MeshShape& shape, int rank);
int rank_of(const MeshShape& shape, const MeshCoordinates& at);

// This rank's place among the others and its communicators, one a named axis, made once and in
// one global order. Owns the communicators; the world must outlive it.
class Mesh {
public:
    // kv_groups: into how many groups of neighbours the tensor axis is split for key/value heads
    // that several tensor ranks share (= kv_heads when kv_heads < tensor, else tensor).
    // data_shards: among how many neighbours of the group data() state is sharded; 0 is all of it.
    // The groups of so many then hold copies of one another.
    // Throws Error (config) when the shape does not multiply to the world's size.
    Mesh(World& world, const MeshShape& shape, int kv_groups, int data_shards = 0);

    const MeshShape& shape() const { return shape_; }
    const MeshCoordinates& at() const { return at_; }

    World& world() { return world_; }
    Communicator& all() { return *all_; }
    Communicator& tensor() { return *tensor_; }
    Communicator& tensor_kv() { return *tensor_kv_; }  // tensor ranks with the same kv heads
    Communicator& context() { return *context_; }
    // All that hold the same parameters and see other data: along data and context axis together.
    Communicator& data() { return *data_; }
    // Those of data() among which state is sharded, and those that hold the same shard as this one
    // (null where no other does).
    Communicator& data_shard() { return data_shard_ ? *data_shard_ : *data_; }
    Communicator* data_replicas() { return data_replicas_.get(); }
    // Along the pipeline, a communicator for each direction so that neither waits for the other:
    // activations travel to the next stage, gradients to the one before.
    Communicator& pipeline_activations() { return *pipeline_activations_; }
    Communicator& pipeline_gradients() { return *pipeline_gradients_; }
    // First and last stage, for tied embeddings: rank 0 is the first stage. Null on stages
    // between; size one when there is one stage.
    Communicator* embedding() { return embedding_.get(); }
    // How long compute has stood still for each axis.
    WaitLedger& waits() { return waits_; }

private:
    World& world_;
    MeshShape shape_;
    MeshCoordinates at_;
    WaitLedger waits_;
    std::unique_ptr<Communicator> all_, tensor_, tensor_kv_, context_, data_, data_shard_,
        data_replicas_, pipeline_activations_, pipeline_gradients_, embedding_;
};

}  // namespace trireme
