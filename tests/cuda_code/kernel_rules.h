#pragma once

#include <string>
#include <vector>

#include "tests/cuda_code/device_image.h"

namespace trireme {

// What a kernel breaks, a line each; empty where all is well. Every kernel has its rule here: which
// of its global accesses must be of 16 bytes, and whether it may use the stack.
std::vector<std::string> problems_of(const KernelCode& kernel);

// Threads that a Hopper multiprocessor holds of this kernel at a time: as many as its registers and
// shared memory leave room for, in whole blocks of its most threads.
int resident_threads(const KernelCode& kernel);

// A line of a table for each kernel, with its heads.
std::string table_of(const std::vector<KernelCode>& kernels);

}  // namespace trireme
