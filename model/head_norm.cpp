#include "model/head_norm.h"

#include "model/replicated_parameter.h"

namespace trireme {

namespace {

ParameterSpec weight_spec(const ModelContext& context, const std::string& name) {
    ParameterSpec spec =
        replicated_vector(context, name, context.model.head_dim, GradientPart::heads);
    spec.init_value = 1.0f;
    // As the other norms: their gradients come with the input half of backward.
    spec.keep_whole = true;
    return spec;
}

}  // namespace

HeadNorm::HeadNorm(const ModelContext& context, ParameterStore& store, const std::string& name)
    : context_(context),
      store_(store),
      query_(store.declare(weight_spec(context, name + ".query_norm.weight"))),
      key_(store.declare(weight_spec(context, name + ".key_norm.weight"))) {}

void HeadNorm::forward(const Tensor& qkv, const Tensor& out) const {
    const HeadParts parts = context_.head_parts();
    context_.ops().head_norm_forward(context_.stream(), qkv, store_.value(query_),
                                     store_.value(key_), context_.model.norm_eps,
                                     parts.part_heads(), parts.part_kv_heads(), out);
}

void HeadNorm::backward(const Tensor& qkv, const Tensor& dqkv) const {
    const HeadParts parts = context_.head_parts();
    context_.ops().head_norm_backward(context_.stream(), qkv, store_.value(query_),
                                      store_.value(key_), context_.model.norm_eps,
                                      parts.part_heads(), parts.part_kv_heads(), dqkv,
                                      store_.gradient(query_), store_.gradient(key_));
}

void HeadNorm::collect_parameters(std::vector<int>& indices) const {
    indices.push_back(query_);
    indices.push_back(key_);
}

}  // namespace trireme
