#include "model/tensor_parallel.h"

namespace trireme {

Tensor local_slice(const ModelContext& context, const Tensor& whole) {
    return whole.row_range(context.first_local_token(), context.local_tokens());
}

Tensor gather_tokens(const ModelContext& context, const Tensor& local, const Tensor& whole,
                     const char* label) {
    if (!context.is_sharded_by_token()) return local;
    context.stream().wait(context.mesh.tensor().all_gather(context.stream(), local, whole, label));
    return whole;
}

TokenReduction::TokenReduction(const ModelContext& context, const Tensor& partial,
                               const Tensor& local, const char* label)
    : context_(context), result_(partial) {
    if (context.tensor_size() == 1) return;
    Communicator& tensor = context.mesh.tensor();
    if (context.sequence_parallel) {
        result_ = local;
        event_ = tensor.reduce_scatter(context.stream(), partial, local, label);
    } else {
        event_ = tensor.all_reduce(context.stream(), partial, ReduceOp::sum, label);
    }
}

Tensor TokenReduction::wait() {
    context_.stream().wait(event_);
    return result_;
}

}  // namespace trireme
