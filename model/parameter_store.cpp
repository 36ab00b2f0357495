#include "model/parameter_store.h"

#include <algorithm>

#include "core/random.h"

namespace trireme {

int ParameterStore::declare(ParameterSpec spec) {
    TRIREME_CHECK(layout_.offsets.empty(),
                  "parameters to be declared before the layout is planned");
    specs_.push_back(std::move(spec));
    return static_cast<int>(specs_.size()) - 1;
}

void ParameterStore::plan(int shards, int64_t bucket_elements) {
    layout_ = plan_flat_layout(specs_, shards, bucket_elements);
}

Tensor ParameterStore::view(const Tensor& flat, int first, int count) const {
    int64_t rows = 0, elements = 0;
    const ParameterSpec& spec = specs_[static_cast<size_t>(first)];
    for (int i = first; i < first + count; ++i) {
        rows += specs_[static_cast<size_t>(i)].box.size[0] +
                specs_[static_cast<size_t>(i)].padding_rows;
        elements += specs_[static_cast<size_t>(i)].stored_elements();
    }
    const Tensor range = flat.flat_range(layout_.offsets[static_cast<size_t>(first)], elements);
    return spec.is_vector ? range : range.reshaped({rows, spec.box.size[1]});
}

void ParameterStore::allocate(const ModelContext& context, Arena& arena, bool with_gradients) {
    parameters_ = arena.take(context.compute, {layout_.elements});
    if (with_gradients) gradients_ = arena.take(DType::f32, {layout_.elements});
    if (arena.is_measuring()) return;

    constexpr int64_t kPiece = 1 << 20;
    std::vector<float> values;
    std::vector<bf16> rounded;
    for (size_t i = 0; i < specs_.size(); ++i) {
        const int64_t n = specs_[i].box.elements();
        for (int64_t begin = 0; begin < n; begin += kPiece) {
            const int64_t count = std::min(kPiece, n - begin);
            values.resize(static_cast<size_t>(count));
            initial_values(specs_[i], context.seed, begin, count, values.data());
            const Tensor to = parameters_.flat_range(layout_.offsets[i] + begin, count);
            const void* from = values.data();
            if (context.compute == DType::bf16) {
                rounded.assign(values.size(), bf16());
                std::transform(values.begin(), values.end(), rounded.begin(),
                               [](float value) { return bf16(value); });
                from = rounded.data();
            }
            context.device.copy_to_device(to.data, from, to.bytes());
            context.stream().synchronize();
        }
    }
}

void ParameterStore::initial_values(const ParameterSpec& spec, uint64_t seed, int64_t begin,
                                    int64_t count, float* to) {
    if (spec.init_std == 0.0f) {
        std::fill(to, to + count, spec.init_value);
        return;
    }
    const PhiloxKey key = make_key(seed, "init/" + spec.name);
    const int64_t cols = spec.box.size[1];
    std::array<float, 4> normals{};
    int64_t block = -1;
    for (int64_t i = begin; i < begin + count; ++i) {
        const int64_t row = spec.box.begin[0] + i / cols;
        const int64_t col = spec.box.begin[1] + i % cols;
        const int64_t element = row * spec.global[1] + col;
        if (element / 4 != block) {
            block = element / 4;
            normals = philox_normals(key, 0, static_cast<uint64_t>(block));
        }
        to[i - begin] = spec.init_std * normals[static_cast<size_t>(element % 4)];
    }
}

}  // namespace trireme
