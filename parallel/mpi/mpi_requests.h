#pragma once

#include <mpi.h>

#include <cstddef>
#include <vector>

namespace trireme {

// Throws Error (io) naming the call and MPI's text unless the code is MPI_SUCCESS.
void check_mpi(int code, const char* call);

// Where messages of one group go.
struct MpiAddress {
    MPI_Comm comm = MPI_COMM_NULL;
    int peer = 0;  // rank in comm
    int tag = 0;
    bool rendezvous = false;  // a send is complete only once its receive has begun
};

// Messages in flight together. Progress is made by test(). Bytes may exceed what one MPI message
// can count; both sides cut them alike. Allocates only when there are more than ever before.
class MpiRequests {
public:
    void send(const MpiAddress& to, const void* data, size_t bytes);
    void receive(const MpiAddress& from, void* data, size_t bytes);
    // True once all are complete; then forgets them. Throws Error (internal) when a message was of
    // another size than the receiver expects, Error (io) when MPI fails.
    bool test();

private:
    std::vector<MPI_Request> requests_;
    std::vector<MPI_Status> statuses_;
    std::vector<int> expected_;  // bytes; -1 for a send
};

}  // namespace trireme
