#include "app/model_checkpoint.h"

#include <algorithm>
#include <vector>

#include "core/rounded_values.h"
#include "model/flops.h"

namespace trireme {

namespace {

constexpr const char* kParameterPrefix = "parameter/";

void check_same_model(const ModelContext& context, const CheckpointReader& reader) {
    uint64_t elements = 0;  // a manifest may claim anything
    for (const auto& [name, tensor] : reader.manifest().tensors) {
        if (name.starts_with(kParameterPrefix))
            elements +=
                static_cast<uint64_t>(tensor.global[0]) * static_cast<uint64_t>(tensor.global[1]);
    }
    const auto expected = static_cast<uint64_t>(count_parameters(context.model).total);
    if (elements == expected) return;
    throw CheckpointMismatch(reader.folder() + ": checkpoint of another model: it holds " +
                             std::to_string(elements) + " parameters, the configured model has " +
                             std::to_string(expected) + "; set model as in its config.yaml");
}

// One that was imported holds the parameters alone: optimizers begin with moments of zero.
bool holds_moments(const CheckpointReader& reader) {
    const auto& tensors = reader.manifest().tensors;
    return reader.state().step > 0 ||
           !std::all_of(tensors.begin(), tensors.end(), [](const auto& tensor) {
               return tensor.first.starts_with(kParameterPrefix);
           });
}

void read_to_device(Device& device, CheckpointReader& reader, const std::string& name,
                    const Box& box, const Tensor& to, std::vector<float>& values) {
    values.resize(static_cast<size_t>(box.elements()));
    reader.read(name, box, DType::f32, values.data());
    std::vector<bf16> rounded;
    const auto bytes = bytes_in(to.dtype, values, rounded);
    device.copy_to_device(to.data, bytes.data(), bytes.size());
    device.compute().synchronize();
}

void load_parameters(Engine& engine, CheckpointReader& reader) {
    std::vector<float> values;
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        store.forget_gathered();
        for (const ParameterSpec& spec : store.specs()) {
            if (spec.box.elements() > 0) {
                reader.expect_shape(kParameterPrefix + spec.name, spec.global);
            }
        }
        store.for_each_held_part([&](const ParameterSpec& spec, const Box& box, const Tensor& to) {
            read_to_device(engine.device(), reader, kParameterPrefix + spec.name, box, to, values);
        });
    }
}

}  // namespace

std::vector<CheckpointPiece> checkpoint_pieces(Engine& engine) {
    std::vector<CheckpointPiece> pieces;
    for (auto& optimizer : engine.optimizers()) {
        optimizer->wait_parameters();
        optimizer->for_each_owned_piece([&](const Optimizer::Piece& piece) {
            pieces.push_back({.tensor = piece.name,
                              .global = piece.spec->global,
                              .is_vector = piece.spec->is_vector,
                              .box = piece.box,
                              .dtype = DType::f32,
                              .data = piece.values.data});
        });
    }
    return pieces;
}

void read_model(Engine& engine, CheckpointReader& reader) {
    check_same_model(engine.model().context(), reader);
    load_parameters(engine, reader);
    std::vector<float> values;
    const bool has_moments = holds_moments(reader);
    for (auto& optimizer : engine.optimizers()) {
        optimizer->for_each_kept_piece([&](const Optimizer::Piece& piece) {
            if (!has_moments && !piece.name.starts_with(kParameterPrefix)) {
                engine.device().ops().fill_zero(engine.device().compute(), piece.values);
                return;
            }
            reader.expect_shape(piece.name, piece.spec->global);
            read_to_device(engine.device(), reader, piece.name, piece.box, piece.values, values);
        });
    }
}

void publish_model(Engine& engine) {
    for (auto& optimizer : engine.optimizers()) optimizer->publish_master();
}

}  // namespace trireme
