#pragma once

#include <cstdint>
#include <string>

namespace trireme {

// What this process may use of its machine: what the kernel has, and within that the limits of the
// control groups that containers and batch systems put it in (Linux cgroups v1 and v2; those of all
// groups above count too). Files that are missing or not understood set no limit. root: a folder to
// look in instead of "/", for tests.

// Processors' worth of time that the groups allow; infinity where they do not say.
double processor_quota(const std::string& root = "");

struct HostMemory {
    uint64_t total = UINT64_MAX;      // bytes, of the machine or the narrowest group
    uint64_t available = UINT64_MAX;  // what can be taken before the kernel kills for it

    bool operator==(const HostMemory&) const = default;
};

// available: of the machine what is free or can be freed, swap included; of a group its limit less
// what it holds beyond file pages that can be dropped. Takes some 0.1 ms.
HostMemory host_memory(const std::string& root = "");

}  // namespace trireme
