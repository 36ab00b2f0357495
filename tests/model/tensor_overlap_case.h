#pragma once

#include <string>

#include "model/model_options.h"
#include "tests/parallel/overlap_cases.h"

namespace trireme::testing {

// Training steps of a model on two tensor ranks, with one micro-batch a step.
struct TensorStepOptions {
    ModelOptions model;
    DType compute = DType::f32;
    int64_t batch = 4;  // sequences of model.max_sequence_length
    int pieces = 4;
    bool sequence_parallel = true;
    // Products and attention sleep as long as at this speed; 0: they are computed.
    double flops_per_second = 0.0;
};

// Turned off, overlap is one piece that is waited for at once. Communication alone is the same step
// with products and attention that take no time.
OverlapCase tensor_case(const std::string& name, const TensorStepOptions& options);

}  // namespace trireme::testing
