#pragma once

#include <cstdint>
#include <span>

namespace trireme {

// What one device sends and receives at the same time over a kind of link.
struct LinkSpeed {
    double bytes_per_second = 0.0;  // each way
    double latency_seconds = 0.0;
};

// Machines of equally many devices, in rank order, with fast links inside and a network between.
struct ClusterLinks {
    int devices_per_node = 1;
    LinkSpeed node;     // between devices of a machine
    LinkSpeed network;  // a device's share of what its machine has to others

    // Between two ranks.
    LinkSpeed between(int rank, int other) const;
    // Of a ring through a group of ranks, each in this world. Where the group leaves a machine, its
    // members there carry the ring's traffic together, each over its share of the network.
    LinkSpeed around(std::span<const int> members) const;
    // Of a group each of whose members sends as much to every other one at once: what goes to other
    // machines over its own share of the network, the rest meanwhile over the links inside.
    LinkSpeed among(std::span<const int> members) const;
};

enum class Collective { all_reduce, all_gather, reduce_scatter, all_to_all, broadcast };

// Bytes that a ring of n ranks moves in each: 2 (n - 1) / n of an all-reduce's buffer, (n - 1) / n
// of the whole of an all-gather or reduce-scatter, all of a broadcast's. In an all-to-all each
// sends all of its buffer but its own block, (n - 1) / n. bytes: of the buffer, or of the whole.
double ring_bytes(Collective kind, int n, double bytes);
// Messages of a tree of n ranks one after the other, twice as many for an all-reduce. One of an
// all-to-all, whose messages are all under way at once.
int tree_steps(Collective kind, int n);

// Seconds of a collective among n ranks: the ring's bytes, and a latency for each step of the tree.
// link: around() the group, or among() it for an all-to-all.
double collective_seconds(Collective kind, int n, double bytes, const LinkSpeed& link);

}  // namespace trireme
