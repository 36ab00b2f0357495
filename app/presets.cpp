#include "app/presets.h"

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

// Llama 3.1 and 3.2 as published, for 131072 positions.
ModelOptions llama3(int layers, int hidden, int heads, int ffn_hidden, bool tie_embeddings,
                    double factor) {
    ModelOptions model = llama(layers, hidden, heads, ffn_hidden, tie_embeddings);
    model.max_sequence_length = 131072;
    model.rope_scaling = {.kind = RopeScalingKind::llama3,
                          .factor = factor,
                          .low_freq_factor = 1.0,
                          .high_freq_factor = 4.0,
                          .original_max_position = 8192};
    return model;
}

struct QwenSizes {
    int layers, hidden, heads, kv_heads, ffn_hidden, vocab_size, max_sequence_length;
    bool tie_embeddings;
    float norm_eps = 1.0e-6f;
};

ModelOptions qwen(const QwenSizes& sizes) {
    return {.family = Family::llama,
            .layers = sizes.layers,
            .hidden = sizes.hidden,
            .heads = sizes.heads,
            .kv_heads = sizes.kv_heads,
            .ffn_hidden = sizes.ffn_hidden,
            .vocab_size = sizes.vocab_size,
            .max_sequence_length = sizes.max_sequence_length,
            .tie_embeddings = sizes.tie_embeddings,
            .rope_theta = 1000000.0f,
            .norm_eps = sizes.norm_eps};
}

ModelOptions qwen2(const QwenSizes& sizes) {
    ModelOptions model = qwen(sizes);
    model.qkv_bias = true;
    return model;
}

ModelOptions qwen3(int layers, int hidden, int heads, int ffn_hidden, bool tie_embeddings) {
    ModelOptions model =
        qwen({layers, hidden, heads, 8, ffn_hidden, 151936, 40960, tie_embeddings});
    model.head_dim = 128;
    model.qk_norm = true;
    return model;
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

std::vector<Preset> presets() {
    return {{"none", {}},
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
            {"gpt3-175b", gpt3()},
            {"llama-3.2-3b", llama3(28, 3072, 24, 8192, true, 32.0)},
            {"llama-3.1-8b", llama3(32, 4096, 32, 14336, false, 8.0)},
            {"qwen2.5-3b", qwen2({36, 2048, 16, 2, 11008, 151936, 32768, true})},
            {"qwen2.5-7b", qwen2({28, 3584, 28, 4, 18944, 152064, 131072, false})},
            {"qwen2.5-14b", qwen2({48, 5120, 40, 8, 13824, 152064, 131072, false, 1.0e-5f})},
            {"qwen2.5-32b", qwen2({64, 5120, 40, 8, 27648, 152064, 131072, false, 1.0e-5f})},
            {"qwen3-0.6b", qwen3(28, 1024, 16, 3072, true)},
            {"qwen3-4b", qwen3(36, 2560, 32, 9728, true)},
            {"qwen3-8b", qwen3(36, 4096, 32, 12288, false)},
            {"qwen3-14b", qwen3(40, 5120, 40, 17408, false)},
            {"qwen3-32b", qwen3(64, 5120, 64, 25600, false)}};
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
