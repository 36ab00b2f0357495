#include "app/presets.h"

#include <array>

#include "core/error.h"

namespace trireme {

namespace {

struct Preset {
    const char* name;
    ModelOptions model;
};

ModelOptions gpt2(int layers, int hidden, int heads) {
    return {.family = Family::gpt2,
            .layers = layers,
            .hidden = hidden,
            .heads = heads,
            .vocab_size = 50257,
            .max_sequence_length = 1024,
            .tie_embeddings = true};
}

ModelOptions gpt3() {
    ModelOptions model = gpt2(96, 12288, 96);
    model.max_sequence_length = 2048;
    return model;
}

// Published shapes with 8192 positions, the length these models were pretrained at first.
ModelOptions llama(int layers, int hidden, int heads, int ffn_hidden, bool tie_embeddings) {
    return {.family = Family::llama,
            .layers = layers,
            .hidden = hidden,
            .heads = heads,
            .kv_heads = 8,
            .ffn_hidden = ffn_hidden,
            .vocab_size = 128256,
            .max_sequence_length = 8192,
            .tie_embeddings = tie_embeddings,
            .rope_theta = 500000.0f};
}

ModelOptions demo() {
    return {.family = Family::llama,
            .layers = 4,
            .hidden = 256,
            .heads = 8,
            .kv_heads = 4,
            .ffn_hidden = 688,
            .vocab_size = 257,
            .max_sequence_length = 256};
}

std::array<Preset, 12> presets() {
    return {{{"none", {}},
             {"demo", demo()},
             {"gpt2-124m", gpt2(12, 768, 12)},
             {"gpt2-355m", gpt2(24, 1024, 16)},
             {"gpt2-774m", gpt2(36, 1280, 20)},
             {"gpt2-1558m", gpt2(48, 1600, 25)},
             {"llama-1b", llama(16, 2048, 32, 8192, true)},
             {"llama-3b", llama(28, 3072, 24, 8192, true)},
             {"llama-8b", llama(32, 4096, 32, 14336, false)},
             {"llama-70b", llama(80, 8192, 64, 28672, false)},
             {"llama-405b", llama(126, 16384, 128, 53248, false)},
             {"gpt3-175b", gpt3()}}};
}

}  // namespace

std::vector<std::string> preset_names() {
    std::vector<std::string> names;
    for (const Preset& preset : presets()) names.push_back(preset.name);
    return names;
}

void apply_preset(const std::string& name, ModelOptions& model) {
    for (const Preset& preset : presets()) {
        if (name != preset.name) continue;
        if (name != "none") model = preset.model;
        return;
    }
    TRIREME_CHECK(false, "the name of a preset");
}

std::vector<std::string> preset_keys() {
    return {"family",        "layers", "hidden", "heads", "vocab_size", "max_sequence_length",
            "tie_embeddings"};
}

}  // namespace trireme
