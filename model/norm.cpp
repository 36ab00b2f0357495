#include "model/norm.h"

#include "model/replicated_parameter.h"

namespace trireme {

namespace {

ParameterSpec norm_spec(const ModelContext& context, const std::string& name, float value) {
    ParameterSpec spec =
        replicated_vector(context, name, context.model.hidden, GradientPart::tokens);
    spec.init_value = value;
    spec.keep_whole = true;
    return spec;
}

}  // namespace

Norm::Norm(const ModelContext& context, ParameterStore& store, const std::string& name)
    : context_(context), store_(store) {
    weight_ = store.declare(norm_spec(context, name + ".weight", 1.0f));
    if (is_layer_norm()) bias_ = store.declare(norm_spec(context, name + ".bias", 0.0f));
}

Norm::Statistics Norm::take_statistics(Arena& arena) const {
    Statistics statistics;
    if (is_layer_norm()) statistics.mean = arena.take(DType::f32, {context_.local_tokens()});
    statistics.rstd = arena.take(DType::f32, {context_.local_tokens()});
    return statistics;
}

Norm::Statistics Norm::Statistics::of_piece(const ModelContext& context, int piece) const {
    const TokenSpan rows = context.rows_of_piece(context.local_tokens(), piece);
    return {mean ? mean.flat_range(rows.first, rows.count) : Tensor(),
            rstd.flat_range(rows.first, rows.count)};
}

void Norm::forward(const Tensor& x, const Tensor& y, const Statistics& statistics) const {
    const float eps = context_.model.norm_eps;
    if (is_layer_norm()) {
        context_.ops().layer_norm_forward(context_.stream(), x, store_.value(weight_),
                                          store_.value(bias_), eps, y, statistics.mean,
                                          statistics.rstd);
    } else {
        context_.ops().rms_norm_forward(context_.stream(), x, store_.value(weight_), eps, y,
                                        statistics.rstd);
    }
}

void Norm::forward(const ResidualAdd& add, const Tensor& y, const Statistics& statistics) const {
    const float eps = context_.model.norm_eps;
    if (is_layer_norm()) {
        context_.ops().residual_add_layer_norm_forward(context_.stream(), add,
                                                       store_.value(weight_), store_.value(bias_),
                                                       eps, y, statistics.mean, statistics.rstd);
    } else {
        context_.ops().residual_add_rms_norm_forward(context_.stream(), add, store_.value(weight_),
                                                     eps, y, statistics.rstd);
    }
}

void Norm::backward(const Tensor& dy, const Tensor& x, const Statistics& statistics,
                    const Tensor& dx) const {
    if (is_layer_norm()) {
        context_.ops().layer_norm_backward(context_.stream(), dy, x, store_.value(weight_),
                                           statistics.mean, statistics.rstd, dx,
                                           store_.gradient(weight_), store_.gradient(bias_));
    } else {
        context_.ops().rms_norm_backward(context_.stream(), dy, x, store_.value(weight_),
                                         statistics.rstd, dx, store_.gradient(weight_));
    }
}

void Norm::collect_parameters(std::vector<int>& indices) const {
    indices.push_back(weight_);
    if (bias_ >= 0) indices.push_back(bias_);
}

}  // namespace trireme
