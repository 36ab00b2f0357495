#include "core/cpu/cpu_ops.h"

#include <algorithm>

#include "core/cpu/amx_support.h"
#include "core/cpu/attention.h"
#include "core/cpu/matmul.h"

namespace trireme {

CpuOps::CpuOps(int threads)
    : threads_(std::max(threads, 1)), matmul_(std::make_unique<CpuMatmul>(threads_)),
      attention_(std::make_unique<CpuAttention>(threads_, this_processor().amx_attention)) {}

CpuOps::~CpuOps() = default;

}  // namespace trireme
