#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>

// What tests set of the emulated machine; see README.md beside this.
namespace cuda_emulation {

// GPUs found by programs from now on; 1 at first. 0: as without a driver.
void set_device_count(int count);

// Device memory of all GPUs together; 4 GiB at first.
void set_memory_limit(size_t bytes);
size_t memory_in_use();
// Whether all of it lies in one allocation of device memory.
bool is_device_memory(const void* memory, size_t bytes);

// From now on cuBLASLt has no algorithm for a product with an epilogue, or has them again.
void refuse_epilogues(bool refused);

// From now on CUDA refuses to record graphs, or records them again.
void refuse_graphs(bool refused);
// Executable graphs made since the last call.
int take_graphs_made();

// How long an operation of NCCL waits for another rank before the program is ended with a message,
// and a call on the host before it fails; 20 s at first.
void set_nccl_patience(std::chrono::milliseconds time);
// NCCL's operations are refused host memory, unless a test knows what it does.
void allow_host_memory_in_nccl(bool allowed);

// Bytes that NCCL's operations used since the last call, by the name of their communicator: in
// memory that was registered with it, and in other memory.
struct NcclTraffic {
    size_t registered = 0;
    size_t other = 0;
};
std::map<std::string, NcclTraffic> take_nccl_traffic();
// Registrations of memory with communicators that there are now.
size_t nccl_registrations();

}  // namespace cuda_emulation
