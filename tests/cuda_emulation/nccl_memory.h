#pragma once

#include <nccl.h>

#include <cstddef>
#include <string>

// What the emulated NCCL knows of memory: what it gave out itself, and what is registered with
// which communicator.
namespace nccl_emulation {

// Ends the program: what would hang, or what NCCL leaves undefined.
[[noreturn]] void fail(const std::string& what);

// Fails unless operations may use this memory.
void check_memory(const void* memory, size_t bytes);

// An operation's memory; null where it has none.
struct Buffers {
    const void* from = nullptr;
    size_t from_bytes = 0;
    const void* to = nullptr;
    size_t to_bytes = 0;
};
struct Registered {
    bool from = false;
    bool to = false;
    std::ptrdiff_t head = 0;  // how far into what is registered the larger buffer begins
};
// What of it is registered with the communicator of this name. Counts it as the operation's
// traffic.
Registered look_up_registrations(ncclComm_t comm, const std::string& name, const Buffers& buffers);

bool has_registrations(ncclComm_t comm);
void forget_registration(ncclComm_t comm, void* handle);
void forget_registrations(ncclComm_t comm);

}  // namespace nccl_emulation
