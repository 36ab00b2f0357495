#include "core/cuda/cuda_ops.h"

#include "core/cuda/cuda_device.h"
#include "core/cuda/cudnn_attention.h"
#include "core/cuda/matmul.h"

namespace trireme {

CudaOps::CudaOps(CudaDevice& device, const CudaOpsOptions& options)
    : options_(options),
      scratch_(device, "scratch of operations"),
      matmul_(std::make_unique<CudaMatmul>(device, options.tune_matmul)),
      cudnn_(make_cudnn_attention(device)) {}

CudaOps::~CudaOps() = default;

}  // namespace trireme
