#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/parallel_options.h"

namespace trireme {

// The same world with slow links, to measure on one machine what a step hides behind compute: an
// operation on a group of a throttled axis is complete not before latency + bytes / bandwidth after
// it started. Collectives of a rank in a group follow one another on its link, and so do its sends;
// neither waits for the other, and a receive takes as long as its sender's link. Bytes of a
// collective are those of ring_bytes (parallel/cluster_links.h); barriers are not slower.
// While an operation is held up, its thread sleeps.
//
// For carriers whose operations a background thread performs (MPI, threads), not for NCCL. The
// world must outlive this. Allocates as it goes.
std::unique_ptr<World> make_throttled_world(World& world, std::vector<LinkOptions> links);

// One group alone.
std::unique_ptr<Communicator> make_throttled_communicator(std::unique_ptr<Communicator> group,
                                                          const LinkOptions& link);

}  // namespace trireme
