#include "parallel/mpi/mpi_requests.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/error.h"

namespace trireme {

namespace {

constexpr size_t kMessageBytes = size_t{1} << 30;

[[noreturn]] void fail_size(int source, int expected, const std::string& found) {
    throw InternalError("communication: rank " + std::to_string(source) + " sent " + found +
                        " bytes where " + std::to_string(expected) +
                        " were expected; both sides must issue the same operations in the same "
                        "order with the same sizes");
}

// A library may say more in a code than its class.
int class_of(int code) {
    int error_class = MPI_ERR_UNKNOWN;
    MPI_Error_class(code, &error_class);
    return error_class;
}

}  // namespace

void check_mpi(int code, const char* call) {
    if (code == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    throw Error(ExitCode::io, std::string("communication: ") + call + " failed: " +
                                  std::string(text.data(), static_cast<size_t>(length)) +
                                  "; see the other ranks' messages and the network's state");
}

void MpiRequests::send(const MpiAddress& to, const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    do {
        const int count = static_cast<int>(std::min(bytes, kMessageBytes));
        expected_.push_back(-1);
        const auto start = to.rendezvous ? MPI_Issend : MPI_Isend;
        check_mpi(start(next, count, MPI_BYTE, to.peer, to.tag, to.comm,
                        &requests_.emplace_back(MPI_REQUEST_NULL)),
                  "MPI_Isend");
        next += count;
        bytes -= static_cast<size_t>(count);
    } while (bytes > 0);
}

void MpiRequests::receive(const MpiAddress& from, void* data, size_t bytes) {
    char* next = static_cast<char*>(data);
    do {
        const int count = static_cast<int>(std::min(bytes, kMessageBytes));
        expected_.push_back(count);
        check_mpi(MPI_Irecv(next, count, MPI_BYTE, from.peer, from.tag, from.comm,
                            &requests_.emplace_back(MPI_REQUEST_NULL)),
                  "MPI_Irecv");
        next += count;
        bytes -= static_cast<size_t>(count);
    } while (bytes > 0);
}

bool MpiRequests::test() {
    if (requests_.empty()) return true;
    statuses_.resize(std::max(statuses_.size(), requests_.size()));
    int complete = 0;
    const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &complete,
                                 statuses_.data());
    const bool fails = code != MPI_SUCCESS && class_of(code) == MPI_ERR_IN_STATUS;
    if (!fails) check_mpi(code, "MPI_Testall");
    if (!complete && !fails) return false;
    for (size_t i = 0; i < requests_.size(); ++i) {
        const MPI_Status& status = statuses_[i];
        if (fails) {
            if (class_of(status.MPI_ERROR) == MPI_ERR_PENDING) continue;
            if (class_of(status.MPI_ERROR) == MPI_ERR_TRUNCATE) {
                fail_size(status.MPI_SOURCE, expected_[i], "more");
            }
            check_mpi(status.MPI_ERROR, "a message");
        }
        if (expected_[i] < 0) continue;
        int count = 0;
        MPI_Get_count(&status, MPI_BYTE, &count);
        if (count != expected_[i]) {
            fail_size(status.MPI_SOURCE, expected_[i], std::to_string(count));
        }
    }
    requests_.clear();
    expected_.clear();
    return true;
}

}  // namespace trireme
