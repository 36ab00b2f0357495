#include "app/hf_names.h"

#include <utility>

#include "core/error.h"

namespace trireme {

namespace {

[[noreturn]] void refuse(const std::string& key, const std::string& what) {
    throw Error(ExitCode::config, key + ": " + what + ", which no family of Hugging Face has");
}

HfTensor vector(std::string name, std::string parameter, int64_t size) {
    return {std::move(name), {size}, false, {{std::move(parameter), {1, size}, true, 0}}};
}

HfTensor matrix(std::string name, std::string parameter, int64_t rows, int64_t cols) {
    return {std::move(name), {rows, cols}, false, {{std::move(parameter), {rows, cols}, false, 0}}};
}

// GPT-2's "Conv1D": [in, out], with a bias.
void add_conv(std::vector<HfTensor>& tensors, const std::string& name,
              const std::vector<std::string>& parameters, int64_t rows, int64_t cols) {
    HfTensor weight{name + ".weight", {cols, 0}, true, {}};
    HfTensor bias{name + ".bias", {0}, false, {}};
    for (const std::string& parameter : parameters) {
        weight.parts.push_back({parameter + ".weight", {rows, cols}, false, weight.shape[1]});
        bias.parts.push_back({parameter + ".bias", {1, rows}, true, bias.shape[0]});
        weight.shape[1] += rows;
        bias.shape[0] += rows;
    }
    tensors.push_back(std::move(weight));
    tensors.push_back(std::move(bias));
}

void add_norm(std::vector<HfTensor>& tensors, const std::string& name, const std::string& parameter,
              int64_t size) {
    for (const char* kind : {".weight", ".bias"}) {
        tensors.push_back(vector(name + kind, parameter + kind, size));
    }
}

std::vector<HfTensor> gpt2_tensors(const ModelOptions& m) {
    const std::string prefix = kGpt2Prefix;
    std::vector<HfTensor> tensors;
    tensors.push_back(
        matrix(prefix + "wte.weight", "embedding.token.weight", m.vocab_size, m.hidden));
    tensors.push_back(matrix(prefix + "wpe.weight", "embedding.position.weight",
                             m.max_sequence_length, m.hidden));
    for (int i = 0; i < m.layers; ++i) {
        const std::string theirs = prefix + "h." + std::to_string(i);
        const std::string ours = "layers." + std::to_string(i);
        const std::string attention = ours + ".attention";
        add_norm(tensors, theirs + ".ln_1", ours + ".attention_norm", m.hidden);
        add_conv(tensors, theirs + ".attn.c_attn",
                 {attention + ".query", attention + ".key", attention + ".value"}, m.hidden,
                 m.hidden);
        add_conv(tensors, theirs + ".attn.c_proj", {attention + ".output"}, m.hidden, m.hidden);
        add_norm(tensors, theirs + ".ln_2", ours + ".mlp_norm", m.hidden);
        add_conv(tensors, theirs + ".mlp.c_fc", {ours + ".mlp.up"}, m.ffn_hidden, m.hidden);
        add_conv(tensors, theirs + ".mlp.c_proj", {ours + ".mlp.down"}, m.hidden, m.ffn_hidden);
    }
    add_norm(tensors, prefix + "ln_f", "final_norm", m.hidden);
    return tensors;
}

void add_llama_layer(std::vector<HfTensor>& tensors, const ModelOptions& m, int layer) {
    const std::string theirs = "model.layers." + std::to_string(layer);
    const std::string ours = "layers." + std::to_string(layer);
    const std::string attention = theirs + ".self_attn.", own_attention = ours + ".attention.";
    const std::pair<const char*, const char*> projections[] = {
        {"q_proj", "query"}, {"k_proj", "key"}, {"v_proj", "value"}};
    tensors.push_back(
        vector(theirs + ".input_layernorm.weight", ours + ".attention_norm.weight", m.hidden));
    for (const auto& [their, our] : projections) {
        const int64_t rows = std::string(our) == "query" ? m.query_size() : m.kv_size();
        tensors.push_back(
            matrix(attention + their + ".weight", own_attention + our + ".weight", rows, m.hidden));
        if (!m.qkv_bias) continue;
        tensors.push_back(vector(attention + their + ".bias", own_attention + our + ".bias", rows));
    }
    if (m.qk_norm) {
        tensors.push_back(
            vector(attention + "q_norm.weight", own_attention + "query_norm.weight", m.head_dim));
        tensors.push_back(
            vector(attention + "k_norm.weight", own_attention + "key_norm.weight", m.head_dim));
    }
    tensors.push_back(matrix(attention + "o_proj.weight", own_attention + "output.weight", m.hidden,
                             m.query_size()));
    tensors.push_back(
        vector(theirs + ".post_attention_layernorm.weight", ours + ".mlp_norm.weight", m.hidden));
    for (const char* kind : {"gate", "up"}) {
        tensors.push_back(matrix(theirs + ".mlp." + kind + "_proj.weight",
                                 ours + ".mlp." + kind + ".weight", m.ffn_hidden, m.hidden));
    }
    tensors.push_back(matrix(theirs + ".mlp.down_proj.weight", ours + ".mlp.down.weight", m.hidden,
                             m.ffn_hidden));
}

std::vector<HfTensor> llama_tensors(const ModelOptions& m) {
    std::vector<HfTensor> tensors;
    tensors.push_back(
        matrix("model.embed_tokens.weight", "embedding.token.weight", m.vocab_size, m.hidden));
    for (int i = 0; i < m.layers; ++i) add_llama_layer(tensors, m, i);
    tensors.push_back(vector("model.norm.weight", "final_norm.weight", m.hidden));
    return tensors;
}

}  // namespace

const char* model_type_of(HfFamily family) {
    switch (family) {
        case HfFamily::gpt2:
            return "gpt2";
        case HfFamily::llama:
            return "llama";
        case HfFamily::qwen2:
            return "qwen2";
        case HfFamily::qwen3:
            return "qwen3";
    }
    return "?";
}

const char* architecture_of(HfFamily family) {
    switch (family) {
        case HfFamily::gpt2:
            return "GPT2LMHeadModel";
        case HfFamily::llama:
            return "LlamaForCausalLM";
        case HfFamily::qwen2:
            return "Qwen2ForCausalLM";
        case HfFamily::qwen3:
            return "Qwen3ForCausalLM";
    }
    return "?";
}

HfFamily hf_family_of(const ModelOptions& m) {
    if (m.family == Family::gpt2) {
        if (m.kv_heads != m.heads) refuse("model.kv_heads", "other than heads with family gpt2");
        if (m.query_size() != m.hidden) {
            refuse("model.head_dim", "other than hidden / heads with family gpt2");
        }
        return HfFamily::gpt2;
    }
    if (m.qkv_bias && m.qk_norm) refuse("model.qkv_bias", "together with model.qk_norm");
    if (m.qk_norm) return HfFamily::qwen3;
    return m.qkv_bias ? HfFamily::qwen2 : HfFamily::llama;
}

uint64_t HfTensor::elements() const {
    uint64_t count = 1;
    for (const int64_t size : shape) count *= static_cast<uint64_t>(size);
    return count;
}

std::vector<HfTensor> hf_tensors(HfFamily family, const ModelOptions& m) {
    std::vector<HfTensor> tensors = family == HfFamily::gpt2 ? gpt2_tensors(m) : llama_tensors(m);
    if (!m.tie_embeddings) {
        tensors.push_back(matrix("lm_head.weight", "head.weight", m.vocab_size, m.hidden));
    }
    return tensors;
}

bool is_hf_buffer(HfFamily family, const std::string& name) {
    if (family != HfFamily::gpt2) return name.ends_with(".rotary_emb.inv_freq");
    return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

}  // namespace trireme
