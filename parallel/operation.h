#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "parallel/communicator.h"

namespace trireme {

enum class OperationKind : uint8_t {
    all_reduce,
    all_gather,
    reduce_scatter,
    all_to_all,
    broadcast,
    barrier,
    send,
    recv,
};

const char* name_of(OperationKind kind);

// One issued call, as a carrier executes it. A value; the buffers belong to the caller.
struct Operation {
    OperationKind kind = OperationKind::barrier;
    ReduceOp reduce = ReduceOp::sum;
    DType dtype = DType::u8;
    int peer = -1;         // root of a broadcast, the other side of a send or receive
    int64_t elements = 0;  // of the shard where there is one, or of one block, else of the buffer
    // Shard of all_gather, whole of reduce_scatter, `from` of all_to_all, send buffer.
    const void* input = nullptr;
    void* output = nullptr;  // every other buffer
    const char* label = "";
    uint64_t ticket = 0;  // its number in the queue of the rank that issued it
    uint64_t record = 0;  // on that rank's ActivityBoard

    size_t bytes() const { return static_cast<size_t>(elements) * size_of(dtype); }
};

// The operation of each call of Communicator. Throw InternalError for arguments that no group of
// this size can carry.
Operation all_reduce_of(const Tensor& buffer, ReduceOp op, const char* label);
Operation all_gather_of(const Tensor& shard, const Tensor& whole, int size, const char* label);
Operation reduce_scatter_of(const Tensor& whole, const Tensor& shard, int size, const char* label);
Operation all_to_all_of(const Tensor& from, const Tensor& to, int size, const char* label);
Operation broadcast_of(const Tensor& buffer, int root, int size, const char* label);
Operation send_of(const Tensor& buffer, int peer, int rank, int size, const char* label);
Operation recv_of(const Tensor& buffer, int peer, int rank, int size, const char* label);

// "all_reduce sum of 257 F32 'grad norm'"
std::string describe(const Operation& operation);

// Whether two members issued the same collective, labels included.
bool same_collective(const Operation& a, const Operation& b);

}  // namespace trireme
