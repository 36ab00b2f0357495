#pragma once

#include <mpi.h>

#include <chrono>
#include <string>
#include <vector>

#include "parallel/channel.h"
#include "parallel/mpi/mpi_collective.h"
#include "parallel/operation_queue.h"

namespace trireme {

class MpiRun;

// Where a channel's messages go. Groups share one MPI communicator and differ by their tags, so
// that making a group needs no blocking call of MPI.
struct MpiLane {
    MPI_Comm comm = MPI_COMM_NULL;
    int collective_tag = 0;
    int transfer_tag = 0;
    bool rendezvous = false;  // see make_mpi_world
};

// This process's end of one group. One collective is in flight at a time; sends and receives start
// as soon as they are issued, and MPI matches them in order.
class MpiChannel final : public Channel {
public:
    MpiChannel(MpiRun& run, const MpiLane& lane, std::string name, std::vector<int> ranks,
               int rank, std::chrono::milliseconds timeout, ActivityBoard& board);

    // The thread that owns MPI. Starts what was issued, finishes what is complete; returns whether
    // there was anything. Throws Error.
    bool progress();
    bool idle();  // nothing issued that is not done

protected:
    void submit(const Operation& operation) override;
    std::string who_is_missing(OperationKind queue, uint64_t ticket) override;
    void give_up(const Error& error) override;

private:
    struct Transfer {
        Operation operation;
        MpiRequests requests;
    };

    bool start_transfers(OperationQueue& queue);
    bool finish_transfers();
    bool progress_collective();

    MpiRun& run_;
    const MpiLane lane_;
    OperationQueue collectives_, sends_, receives_;
    MpiCollective collective_;
    bool collective_in_flight_ = false;
    Operation collective_operation_;
    std::vector<Transfer> transfers_;  // the first active_ are in flight; the others are spare
    size_t active_ = 0;
};

}  // namespace trireme
