#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "parallel/mpi/mpi_requests.h"
#include "parallel/operation.h"

namespace trireme {

// One collective in progress, as rounds of direct messages between members. Reductions bring the
// sources to one rank, which adds them in rank order: the result has the same bits on every rank,
// in every run and with every carrier, which the library's own reductions do not promise. Few
// rounds with many messages also suit hosts with more ranks than cores, where each round waits for
// a time slice of its peers.
class MpiCollective {
public:
    // ranks: the members' ranks in comm; rank: place of this process among them.
    MpiCollective(MPI_Comm comm, int tag, std::vector<int> ranks, int rank);

    enum class State { waiting, moved, done };

    void start(const Operation& operation);
    // Without blocking. moved: messages arrived and the next round began.
    State advance();

private:
    // Elements of the buffer.
    struct Range {
        int64_t begin = 0;
        int64_t count = 0;
    };

    size_t bytes(int64_t elements) const;
    Range part_of(int member) const;  // of the current piece, in an operation of two rounds
    void send(int member, const void* buffer, Range range);
    void receive(int member, void* buffer, Range range);
    void receive_to_add(int member, int64_t elements);
    void add(const void* buffer, Range own, void* result);

    void begin_piece(int64_t begin);
    void post();
    void post_to(int to, int from);
    void post_broadcast();
    void finish_round();

    const MPI_Comm comm_;
    const int tag_;
    const std::vector<int> ranks_;
    const int rank_;
    const int size_;

    Operation operation_;
    bool two_rounds_ = false;  // scatter, then gather parts; otherwise whole buffers to everybody
    int round_ = 0;
    int64_t piece_limit_ = 0;
    Range piece_;              // what is being worked on
    MpiRequests requests_;

    size_t scratch_stride_ = 0;
    size_t scratch_bytes_ = 0;
    std::unique_ptr<std::byte[]> scratch_;  // arrived parts to add, one a member
    std::vector<const void*> sources_;
};

}  // namespace trireme
