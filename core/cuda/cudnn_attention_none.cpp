#include "core/cuda/cudnn_attention.h"

namespace trireme {

std::unique_ptr<CudnnAttention> make_cudnn_attention(CudaDevice&) {
    return nullptr;
}

}  // namespace trireme
