#include "model/replicated_parameter.h"

namespace trireme {

namespace {

ParameterSpec::Sharing sharing_of(const ModelContext& context, GradientPart part) {
    const bool is_partial = part == GradientPart::heads ||
                            (part == GradientPart::tokens && context.is_sharded_by_token());
    return is_partial ? ParameterSpec::Sharing::tensor_partial : ParameterSpec::Sharing::tensor;
}

}  // namespace

ParameterSpec replicated_matrix(const ModelContext& context, const std::string& name,
                                const std::array<int64_t, 2>& global, GradientPart part) {
    ParameterSpec spec;
    spec.name = name;
    spec.global = global;
    spec.box = {{0, 0}, global};
    spec.sharing = sharing_of(context, part);
    spec.owner = context.tensor_rank() == 0;
    return spec;
}

ParameterSpec replicated_vector(const ModelContext& context, const std::string& name, int64_t size,
                                GradientPart part) {
    ParameterSpec spec = replicated_matrix(context, name, {1, size}, part);
    spec.is_vector = true;
    return spec;
}

}  // namespace trireme
