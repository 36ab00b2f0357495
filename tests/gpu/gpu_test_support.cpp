#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

CudaDevice& gpu() {
    static CudaDevice device(0, CudaOpsOptions{});
    return device;
}

}  // namespace trireme::test
