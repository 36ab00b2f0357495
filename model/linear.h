#pragma once

#include <string>
#include <vector>

#include "model/parameter_store.h"

namespace trireme {

// One logical matrix [out, in] of a column-parallel layer; several that read the same input
// (query, key, value; gate, up) stand one behind the other and are multiplied as one.
struct ColumnPart {
    std::string name;         // "layers.0.attention.query"
    int64_t global_rows = 0;  // output features of the whole model
    int64_t first_row = 0;    // this rank's
    int64_t local_rows = 0;
    ParameterSpec::Sharing sharing = ParameterSpec::Sharing::none;
    bool owner = true;
};

// y = x w^T + b with the output features split over the tensor ranks. Works on all tokens; the
// caller gathers the input before and reduces its gradient after.
class ColumnParallelLinear {
public:
    ColumnParallelLinear(const ModelContext& context, ParameterStore& store,
                         const std::vector<ColumnPart>& parts, int64_t in_features, bool bias);

    void forward(const Tensor& x, const Tensor& y) const;  // [N, K] -> [N, M local]
    void forward_gelu(const Tensor& x, const Tensor& pre, const Tensor& y) const;  // y = gelu(pre)
    void backward_input(const Tensor& dy, const Tensor& dx) const;  // dx: this rank's part of a sum
    void backward_weight(const Tensor& dy, const Tensor& x) const;
    int weight_parameter() const { return first_weight_; }  // the first
    void collect_parameters(std::vector<int>& indices) const;

private:
    Tensor bias() const;  // [M local] or absent

    const ModelContext& context_;
    ParameterStore& store_;
    int parts_;
    int first_weight_;
    int first_bias_ = -1;
};

// y = x w^T with the input features split over the tensor ranks: each rank computes a part of a
// sum, which the caller reduces. The bias, held by all, is added after that (bias()).
class RowParallelLinear {
public:
    RowParallelLinear(const ModelContext& context, ParameterStore& store, const std::string& name,
                      int64_t out_features, int64_t in_features, bool bias, float init_std);

    void forward(const Tensor& x, const Tensor& partial) const;     // [N, K local] -> [N, M]
    void backward_input(const Tensor& dy, const Tensor& dx) const;  // dy: all tokens
    // The gradient of pre where the input x was gelu(pre).
    void backward_input_gelu(const Tensor& dy, const Tensor& pre, const Tensor& dpre) const;
    void backward_weight(const Tensor& dy, const Tensor& x) const;
    Tensor bias() const;  // [M] or absent
    void collect_parameters(std::vector<int>& indices) const;

private:
    const ModelContext& context_;
    ParameterStore& store_;
    int weight_;
    int bias_ = -1;
};

}  // namespace trireme
