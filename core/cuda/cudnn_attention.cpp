#include "core/cuda/cudnn_attention.h"

#include <map>
#include <tuple>

#include "core/cuda/cuda_device.h"
#include "core/cuda/cudnn_graph.h"
#include "core/cuda/scratch.h"
#include "core/error.h"

namespace trireme {

namespace {

class CudnnAttentionPlans final : public CudnnAttention {
public:
    explicit CudnnAttentionPlans(CudaDevice& device)
        : device_(device), workspace_(device, "cuDNN workspace") {}
    ~CudnnAttentionPlans() override {
        plans_.clear();
        destroy_cudnn_handle(handle_);
    }

    bool supports(const AttentionShape& shape) override {
        // What cuDNN refuses in any case does not need to be asked.
        if (shape.head_dim % 8 != 0 || shape.head_dim > 256 || shape.sequence < 2) return false;
        return is_supported(plans_for(shape));
    }

    void forward(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                 const Tensor& lse) override {
        execute(*plans_for(shape).forward, {qkv.data, out.data, lse.data});
    }

    void backward(const AttentionShape& shape, const Tensor& dout, const Tensor& qkv,
                  const Tensor& out, const Tensor& lse, const Tensor& dqkv) override {
        execute(*plans_for(shape).backward, {qkv.data, out.data, lse.data, dout.data, dqkv.data});
    }

private:
    using Key = std::tuple<int64_t, int64_t, int, int, int, float>;
    struct Plans {
        std::unique_ptr<CudnnGraph> forward, backward;
    };

    static bool is_supported(const Plans& plans) {
        return plans.forward->supported() && plans.backward->supported();
    }

    // Refused shapes are kept too, so that cuDNN is asked, and the user told, once.
    const Plans& plans_for(const AttentionShape& s) {
        const Key key{s.batch, s.sequence, s.heads, s.kv_heads, s.head_dim, s.scale};
        const auto found = plans_.find(key);
        if (found != plans_.end()) return found->second;
        if (!handle_) handle_ = make_cudnn_handle(device_.compute().handle());
        const CudnnTarget target{handle_, ""};
        Plans plans{std::make_unique<CudnnGraph>(AttentionPass::forward, s, target),
                    std::make_unique<CudnnGraph>(AttentionPass::backward, s, target)};
        if (!is_supported(plans)) {
            const CudnnGraph& refused =
                plans.forward->supported() ? *plans.backward : *plans.forward;
            device_.add_notice(
                "attention of sequences of " + std::to_string(s.sequence) + " and heads of " +
                std::to_string(s.head_dim) +
                " runs on slower kernels, since cuDNN has none: " + refused.refusal());
        }
        return plans_.emplace(key, std::move(plans)).first->second;
    }

    void execute(CudnnGraph& graph, const AttentionAddresses& addresses) {
        graph.execute(handle_, addresses, workspace_.reserve(graph.workspace_bytes()));
    }

    CudaDevice& device_;
    Scratch workspace_;
    cudnnContext* handle_ = nullptr;
    std::map<Key, Plans> plans_;
};

}  // namespace

std::unique_ptr<CudnnAttention> make_cudnn_attention(CudaDevice& device) {
    return std::make_unique<CudnnAttentionPlans>(device);
}

}  // namespace trireme
