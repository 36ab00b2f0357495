#include "model/linear.h"

#include "model/replicated_parameter.h"

namespace trireme {

namespace {

void add_weight_gradients(const ModelContext& context, const Tensor& dy, const Tensor& x,
                          const Tensor& dweight, const Tensor& dbias) {
    if (dbias) {
        context.ops().linear_backward_weight_bias(context.stream(), dy, x, dweight, dbias);
    } else {
        context.ops().linear_backward_weight(context.stream(), dy, x, dweight);
    }
}

}  // namespace

ColumnParallelLinear::ColumnParallelLinear(const ModelContext& context, ParameterStore& store,
                                           const std::vector<ColumnPart>& parts,
                                           int64_t in_features, bool bias)
    : context_(context), store_(store), parts_(static_cast<int>(parts.size())) {
    first_weight_ = static_cast<int>(store.specs().size());
    for (size_t i = 0; i < parts.size(); ++i) {
        ParameterSpec spec;
        spec.name = parts[i].name + ".weight";
        spec.global = {parts[i].global_rows, in_features};
        spec.box = {{parts[i].first_row, 0}, {parts[i].local_rows, in_features}};
        spec.adjoins_previous = i > 0;
        spec.decay = true;
        spec.sharing = parts[i].sharing;
        spec.owner = parts[i].owner;
        spec.init_std = context.model.init_std;
        store.declare(spec);
    }
    if (!bias) return;
    first_bias_ = static_cast<int>(store.specs().size());
    for (size_t i = 0; i < parts.size(); ++i) {
        ParameterSpec spec;
        spec.name = parts[i].name + ".bias";
        spec.global = {1, parts[i].global_rows};
        spec.is_vector = true;
        spec.box = {{0, parts[i].first_row}, {1, parts[i].local_rows}};
        spec.adjoins_previous = i > 0;
        spec.sharing = parts[i].sharing;
        spec.owner = parts[i].owner;
        store.declare(spec);
    }
}

Tensor ColumnParallelLinear::bias() const {
    return first_bias_ < 0 ? Tensor() : store_.value(first_bias_, parts_);
}

void ColumnParallelLinear::forward(const Tensor& x, const Tensor& y) const {
    context_.ops().linear_forward(context_.stream(), x, store_.value(first_weight_, parts_), bias(),
                                  y);
}

void ColumnParallelLinear::forward_gelu(const Tensor& x, const Tensor& pre, const Tensor& y) const {
    context_.ops().linear_gelu_forward(context_.stream(), x, store_.value(first_weight_, parts_),
                                       bias(), pre, y);
}

void ColumnParallelLinear::backward_input(const Tensor& dy, const Tensor& dx) const {
    context_.ops().linear_backward_input(context_.stream(), dy, store_.value(first_weight_, parts_),
                                         dx);
}

void ColumnParallelLinear::backward_weight(const Tensor& dy, const Tensor& x) const {
    const Tensor bias = first_bias_ < 0 ? Tensor() : store_.gradient(first_bias_, parts_);
    add_weight_gradients(context_, dy, x, store_.gradient(first_weight_, parts_), bias);
}

void ColumnParallelLinear::collect_parameters(std::vector<int>& indices) const {
    for (int i = 0; i < parts_; ++i) indices.push_back(first_weight_ + i);
    for (int i = 0; first_bias_ >= 0 && i < parts_; ++i) indices.push_back(first_bias_ + i);
}

RowParallelLinear::RowParallelLinear(const ModelContext& context, ParameterStore& store,
                                     const std::string& name, int64_t out_features,
                                     int64_t in_features, bool bias, float init_std)
    : context_(context), store_(store) {
    const int64_t local = in_features / context.tensor_size();
    ParameterSpec weight;
    weight.name = name + ".weight";
    weight.global = {out_features, in_features};
    weight.box = {{0, context.tensor_rank() * local}, {out_features, local}};
    weight.decay = true;
    weight.init_std = init_std;
    weight_ = store.declare(weight);
    if (!bias) return;
    // dy has the same tokens on every tensor rank.
    bias_ =
        store.declare(replicated_vector(context, name + ".bias", out_features, GradientPart::all));
}

void RowParallelLinear::forward(const Tensor& x, const Tensor& partial) const {
    context_.ops().linear_forward(context_.stream(), x, store_.value(weight_), Tensor(), partial);
}

void RowParallelLinear::backward_input(const Tensor& dy, const Tensor& dx) const {
    context_.ops().linear_backward_input(context_.stream(), dy, store_.value(weight_), dx);
}

void RowParallelLinear::backward_input_gelu(const Tensor& dy, const Tensor& pre,
                                            const Tensor& dpre) const {
    context_.ops().linear_gelu_backward_input(context_.stream(), dy, store_.value(weight_), pre,
                                              dpre);
}

void RowParallelLinear::backward_weight(const Tensor& dy, const Tensor& x) const {
    const Tensor bias = bias_ < 0 ? Tensor() : store_.gradient(bias_);
    if (bias && context_.tensor_size() > 1) {
        // Apart: a back end that measures which is faster may do it otherwise on another rank, but
        // the ranks' copies of the bias are to stay the same.
        add_weight_gradients(context_, dy, x, store_.gradient(weight_), Tensor());
        context_.ops().bias_backward(context_.stream(), dy, bias);
        return;
    }
    add_weight_gradients(context_, dy, x, store_.gradient(weight_), bias);
}

Tensor RowParallelLinear::bias() const {
    return bias_ < 0 ? Tensor() : store_.value(bias_);
}

void RowParallelLinear::collect_parameters(std::vector<int>& indices) const {
    indices.push_back(weight_);
    if (bias_ >= 0) indices.push_back(bias_);
}

}  // namespace trireme
