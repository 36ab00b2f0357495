#include "app/model_checkpoint.h"

#include <algorithm>
#include <vector>

#include "model/flops.h"
#include "parallel/box.h"
#include "parallel/checkpoint_snapshot.h"

namespace trireme {

namespace {

constexpr const char* kParameterPrefix = "parameter/";

void check_same_model(const ModelContext& context, const CheckpointReader& reader) {
    int64_t elements = 0;
    for (const auto& [name, tensor] : reader.manifest().tensors) {
        if (name.starts_with(kParameterPrefix)) elements += tensor.global[0] * tensor.global[1];
    }
    const int64_t expected = count_parameters(context.model).total;
    if (elements == expected) return;
    throw CheckpointMismatch(reader.folder() + ": checkpoint of another model: it holds " +
                             std::to_string(elements) + " parameters, the configured model has " +
                             std::to_string(expected) + "; set model as in its config.yaml");
}

void read_to_device(Device& device, CheckpointReader& reader, const std::string& name,
                    const Box& box, const Tensor& to, std::vector<float>& values) {
    values.resize(static_cast<size_t>(box.elements()));
    reader.read(name, box, DType::f32, values.data());
    if (to.dtype == DType::bf16) {
        std::vector<bf16> rounded(values.size());
        std::transform(values.begin(), values.end(), rounded.begin(),
                       [](float value) { return bf16(value); });
        device.copy_to_device(to.data, rounded.data(), to.bytes());
    } else {
        device.copy_to_device(to.data, values.data(), to.bytes());
    }
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
        const auto load = [&](const FlatSegment& segment) {
            const ParameterSpec& spec = store.specs()[static_cast<size_t>(segment.parameter)];
            const std::string name = kParameterPrefix + spec.name;
            for (const FlatBox& part : boxes_of_flat_range(
                     spec.box, spec.padding_rows, segment.local.begin, segment.local.size)) {
                read_to_device(engine.device(), reader, name, part.box,
                               store.parameters().flat_range(segment.compact.begin + part.offset,
                                                             part.box.elements()),
                               values);
            }
        };
        for_each_segment(store.layout(), store.specs(), store.held_shard(), load);
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

void save_model(Engine& engine, ControlGroup& group, const std::string& folder,
                const CheckpointState& state) {
    const std::vector<CheckpointPiece> pieces = checkpoint_pieces(engine);
    if (engine.device().backend() == Backend::cpu) {
        engine.device().compute().synchronize();
        save_checkpoint(group, folder, state, pieces);
    } else {
        CheckpointSnapshot snapshot;
        snapshot.take(engine.device(), pieces);
        save_checkpoint(group, folder, state, snapshot.pieces());
    }
}

void read_model(Engine& engine, CheckpointReader& reader) {
    check_same_model(engine.model().context(), reader);
    load_parameters(engine, reader);
    std::vector<float> values;
    for (auto& optimizer : engine.optimizers()) {
        optimizer->for_each_kept_piece([&](const Optimizer::Piece& piece) {
            reader.expect_shape(piece.name, piece.spec->global);
            read_to_device(engine.device(), reader, piece.name, piece.box, piece.values, values);
        });
    }
}

void publish_model(Engine& engine) {
    for (auto& optimizer : engine.optimizers()) optimizer->publish_master();
}

void load_model(Engine& engine, CheckpointReader& reader) {
    read_model(engine, reader);
    publish_model(engine);
}

}  // namespace trireme
