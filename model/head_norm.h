#pragma once

#include <string>
#include <vector>

#include "model/parameter_store.h"

namespace trireme {

// RMS norms of single query and key heads. Every head has the same weights, so all tensor and
// context ranks hold them; each sees its own heads only, and their gradients are summed over them.
class HeadNorm {
public:
    // Declares NAME.query_norm.weight and NAME.key_norm.weight.
    HeadNorm(const ModelContext& context, ParameterStore& store, const std::string& name);

    // [N, (heads + 2 kv_heads) * D] of the heads that this rank attends with; the values are
    // copied.
    void forward(const Tensor& qkv, const Tensor& out) const;
    // dqkv: the gradient of out on entry, of qkv on return. The weights' gradients are added too.
    void backward(const Tensor& qkv, const Tensor& dqkv) const;
    void collect_parameters(std::vector<int>& indices) const;

private:
    const ModelContext& context_;
    ParameterStore& store_;
    int query_, key_;
};

}  // namespace trireme
