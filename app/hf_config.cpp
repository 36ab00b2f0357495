#include "app/hf_config.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include "app/config_problems.h"
#include "app/hf_key_reader.h"
#include "app/schema_values.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace trireme {

using nlohmann::json;

namespace {

constexpr int kMaxDepth = 16;

// Keys that change nothing in what the model computes, or only how it is handled there.
const std::vector<std::string>& idle_keys() {
    static const std::vector<std::string> kKeys = {"_attn_implementation_autoset",
                                                   "_name_or_path",
                                                   "architectures",
                                                   "auto_map",
                                                   "bos_token_id",
                                                   "chunk_size_feed_forward",
                                                   "decoder_start_token_id",
                                                   "diversity_penalty",
                                                   "do_sample",
                                                   "dtype",
                                                   "early_stopping",
                                                   "eos_token_id",
                                                   "id2label",
                                                   "is_llama_config",
                                                   "initializer_range",
                                                   "label2id",
                                                   "length_penalty",
                                                   "max_length",
                                                   "min_length",
                                                   "max_window_layers",
                                                   "model_type",
                                                   "no_repeat_ngram_size",
                                                   "num_beam_groups",
                                                   "num_beams",
                                                   "num_return_sequences",
                                                   "pad_token_id",
                                                   "prefix",
                                                   "problem_type",
                                                   "repetition_penalty",
                                                   "return_dict",
                                                   "sep_token_id",
                                                   "summary_activation",
                                                   "summary_first_dropout",
                                                   "summary_proj_to_labels",
                                                   "summary_type",
                                                   "summary_use_proj",
                                                   "task_specific_params",
                                                   "temperature",
                                                   "tie_encoder_decoder",
                                                   "tokenizer_class",
                                                   "top_k",
                                                   "top_p",
                                                   "torch_dtype",
                                                   "transformers_version",
                                                   "typical_p",
                                                   "use_cache"};
    return kKeys;
}

HfFamily read_family(HfKeyReader& keys) {
    const std::string type = keys.text("model_type", "");
    for (const HfFamily family :
         {HfFamily::gpt2, HfFamily::llama, HfFamily::qwen2, HfFamily::qwen3}) {
        if (type != model_type_of(family)) continue;
        if (keys.has("architectures")) {
            keys.expect("architectures", {json::array({architecture_of(family)})});
        }
        return family;
    }
    keys.refuse("model_type", type.empty() ? "is missing; expected gpt2, llama, qwen2 or qwen3"
                                           : "found \"" + shown(type) +
                                                 "\", expected gpt2, llama, qwen2 or qwen3");
}

DType read_dtype(HfKeyReader& keys) {
    const std::string key = keys.has("dtype") ? "dtype" : "torch_dtype";
    const std::string name = keys.text(key, "float32");
    if (name == "float32") return DType::f32;
    if (name == "bfloat16") return DType::bf16;
    if (name == "float16") return DType::f16;
    keys.refuse(key, "found \"" + shown(name) + "\", expected float32, bfloat16 or float16");
}

float positive(HfKeyReader& keys, const std::string& key, double otherwise) {
    const double value = keys.number(key, otherwise);
    // As a float it must not become 0 or infinite.
    const bool fits =
        value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max();
    if (!fits) {
        keys.refuse(key, "found " + number_text(value) +
                             ", expected above 0, and a number of "
                             "single precision");
    }
    return static_cast<float>(value);
}

// rope_scaling of transformers 4 or rope_parameters of 5; the former may be missing.
void read_rope(const json& object, const std::string& path, const std::string& name,
               ModelOptions& model) {
    HfKeyReader keys(object, path, name + ".");
    const std::string key = keys.has("rope_type") ? "rope_type" : "type";
    keys.ignore({"type", "rope_type"});
    const std::string type = keys.text(key, "default");
    if (keys.has("rope_theta")) model.rope_theta = positive(keys, "rope_theta", 0.0);
    keys.expect("partial_rotary_factor", {1.0, 1});
    RopeScaling& scaling = model.rope_scaling;
    if (type == "linear" || type == "llama3") {
        scaling.factor = keys.number("factor");
        if (!(scaling.factor >= 1.0)) keys.refuse("factor", "expected 1 or more");
    }
    if (type == "llama3") {
        scaling.kind = RopeScalingKind::llama3;
        scaling.low_freq_factor = keys.number("low_freq_factor");
        scaling.high_freq_factor = keys.number("high_freq_factor");
        scaling.original_max_position = keys.whole("original_max_position_embeddings");
    } else if (type == "linear") {
        scaling.kind = RopeScalingKind::linear;
    } else if (type == "default") {
        keys.ignore({"factor"});
    } else {
        keys.refuse(key, "found \"" + shown(type) +
                             "\", expected default, linear or llama3, which are all that is "
                             "supported");
    }
    keys.refuse_others();
}

void read_all_rope(HfKeyReader& keys, const std::string& path, ModelOptions& model) {
    model.rope_theta = positive(keys, "rope_theta", 10000.0);
    const json& former = keys.value("rope_scaling");
    const json& now = keys.value("rope_parameters");
    if (!former.is_null()) read_rope(former, path, "rope_scaling", model);
    if (now.is_null()) return;
    const RopeScaling before = model.rope_scaling;
    model.rope_scaling = {};
    read_rope(now, path, "rope_parameters", model);
    if (!former.is_null() && before != model.rope_scaling) {
        keys.refuse("rope_scaling", "says something else than rope_parameters");
    }
}

void read_windows(HfKeyReader& keys) {
    // The window's width says nothing while it is not used.
    keys.expect("use_sliding_window", {false});
    keys.ignore({"sliding_window"});
    for (const json& type : keys.value("layer_types")) {
        if (type != "full_attention") {
            keys.refuse("layer_types", "found another than \"full_attention\"");
        }
    }
}

void read_llama(HfKeyReader& keys, const std::string& path, HfConfig& config) {
    ModelOptions& model = config.model;
    const bool is_llama = config.family == HfFamily::llama;
    model.family = Family::llama;
    model.layers = keys.whole("num_hidden_layers");
    model.hidden = keys.whole("hidden_size");
    model.heads = keys.whole("num_attention_heads");
    model.kv_heads = keys.whole("num_key_value_heads",
                                is_llama ? std::optional<int>(model.heads) : std::nullopt);
    if (config.family == HfFamily::qwen3 || keys.has("head_dim")) {
        model.head_dim = keys.whole("head_dim");
    } else if (model.hidden % model.heads == 0) {
        model.head_dim = model.hidden / model.heads;
    } else {
        keys.refuse("head_dim",
                    "is missing, and hidden_size is no multiple of "
                    "num_attention_heads");
    }
    model.ffn_hidden = keys.whole("intermediate_size");
    model.max_sequence_length = keys.whole("max_position_embeddings");
    model.norm_eps = positive(keys, "rms_norm_eps", 1e-6);
    model.tie_embeddings = keys.boolean("tie_word_embeddings", false);
    model.qkv_bias = config.family == HfFamily::qwen2;
    model.qk_norm = config.family == HfFamily::qwen3;
    read_all_rope(keys, path, model);
    read_windows(keys);
    keys.expect("hidden_act", {"silu"});
    keys.expect("attention_bias", {false});
    keys.expect("mlp_bias", {false});
    keys.expect("attention_dropout", {0.0, 0});
    keys.expect("pretraining_tp", {1});
    keys.expect("use_mrope", {false});
}

void read_gpt2(HfKeyReader& keys, HfConfig& config) {
    ModelOptions& model = config.model;
    model.family = Family::gpt2;
    model.layers = keys.whole("n_layer");
    model.hidden = keys.whole("n_embd");
    model.heads = keys.whole("n_head");
    model.kv_heads = model.heads;
    if (model.hidden % model.heads != 0) {
        keys.refuse("n_head", "found " + std::to_string(model.heads) +
                                  ", expected a divisor of n_embd " + std::to_string(model.hidden));
    }
    model.head_dim = model.hidden / model.heads;
    model.ffn_hidden = keys.whole("n_inner", 4 * model.hidden);
    model.max_sequence_length = keys.whole("n_positions");
    model.norm_eps = positive(keys, "layer_norm_epsilon", 1e-5);
    model.tie_embeddings = keys.boolean("tie_word_embeddings", true);
    keys.expect("n_ctx", {model.max_sequence_length});
    keys.expect("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
    keys.expect("scale_attn_weights", {true});
    keys.expect("scale_attn_by_inverse_layer_idx", {false});
    keys.expect("reorder_and_upcast_attn", {false});
    keys.expect("add_cross_attention", {false});
    // One probability serves all three places here.
    const double dropout = keys.number("resid_pdrop", 0.1);
    for (const char* key : {"embd_pdrop", "attn_pdrop"}) {
        if (keys.number(key, 0.1) != dropout) keys.refuse(key, "differs from resid_pdrop");
    }
    // The largest doubles below 1 are 1 as floats.
    if (!(dropout >= 0.0 && dropout < 1.0 && static_cast<float>(dropout) < 1.0f)) {
        keys.refuse("resid_pdrop", "expected at least 0 and below 1");
    }
    model.dropout = static_cast<float>(dropout);
}

// The shortest decimal that is this float, so that files say 1e-05 and not 9.99999974e-06.
double as_written(float value) {
    return std::strtod(number_text(value).c_str(), nullptr);
}

const char* dtype_text(DType type) {
    return type == DType::bf16 ? "bfloat16" : type == DType::f16 ? "float16" : "float32";
}

nlohmann::ordered_json gpt2_json(const ModelOptions& m) {
    return {{"vocab_size", m.vocab_size},
            {"n_positions", m.max_sequence_length},
            {"n_ctx", m.max_sequence_length},
            {"n_embd", m.hidden},
            {"n_layer", m.layers},
            {"n_head", m.heads},
            {"n_inner", m.ffn_hidden},
            {"activation_function", "gelu_new"},
            {"resid_pdrop", as_written(m.dropout)},
            {"embd_pdrop", as_written(m.dropout)},
            {"attn_pdrop", as_written(m.dropout)},
            {"layer_norm_epsilon", as_written(m.norm_eps)},
            {"scale_attn_weights", true},
            {"scale_attn_by_inverse_layer_idx", false},
            {"reorder_and_upcast_attn", false}};
}

nlohmann::ordered_json rope_json(const RopeScaling& scaling) {
    switch (scaling.kind) {
        case RopeScalingKind::none:
            break;
        case RopeScalingKind::linear:
            return {{"rope_type", "linear"}, {"factor", scaling.factor}};
        case RopeScalingKind::llama3:
            return {{"rope_type", "llama3"},
                    {"factor", scaling.factor},
                    {"low_freq_factor", scaling.low_freq_factor},
                    {"high_freq_factor", scaling.high_freq_factor},
                    {"original_max_position_embeddings", scaling.original_max_position}};
    }
    return nullptr;
}

nlohmann::ordered_json llama_json(HfFamily family, const ModelOptions& m) {
    nlohmann::ordered_json out = {
        {"vocab_size", m.vocab_size},       {"max_position_embeddings", m.max_sequence_length},
        {"hidden_size", m.hidden},          {"intermediate_size", m.ffn_hidden},
        {"num_hidden_layers", m.layers},    {"num_attention_heads", m.heads},
        {"num_key_value_heads", m.kv_heads}};
    // Qwen2's readers need not know the key.
    if (family != HfFamily::qwen2 || m.query_size() != m.hidden) out["head_dim"] = m.head_dim;
    out["hidden_act"] = "silu";
    out["rms_norm_eps"] = as_written(m.norm_eps);
    out["rope_theta"] = as_written(m.rope_theta);
    out["rope_scaling"] = rope_json(m.rope_scaling);
    out["attention_dropout"] = 0.0;
    if (family == HfFamily::qwen2 || family == HfFamily::qwen3) out["use_sliding_window"] = false;
    if (family == HfFamily::llama || family == HfFamily::qwen3) out["attention_bias"] = false;
    if (family == HfFamily::llama) out["mlp_bias"] = false;
    return out;
}

}  // namespace

HfConfig parse_hf_config(const std::string& text, const std::string& path) {
    const json object = parse_strict_json(text, path, kMaxDepth);
    HfKeyReader keys(object, path);
    HfConfig config;
    config.family = read_family(keys);
    config.dtype = read_dtype(keys);
    config.model.vocab_size = keys.whole("vocab_size");
    if (config.family == HfFamily::gpt2) {
        read_gpt2(keys, config);
    } else {
        read_llama(keys, path, config);
    }
    config.model.init_std = positive(keys, "initializer_range", 0.02);
    config.begin_of_text = keys.value("bos_token_id");
    config.end_of_text = keys.value("eos_token_id");
    config.padding = keys.value("pad_token_id");
    keys.ignore(idle_keys());
    keys.refuse_others();
    return config;
}

std::string hf_config_text(const HfConfig& config) {
    const ModelOptions& m = config.model;
    nlohmann::ordered_json out = {
        {"architectures", nlohmann::ordered_json::array({architecture_of(config.family)})},
        {"model_type", model_type_of(config.family)}};
    out.update(config.family == HfFamily::gpt2 ? gpt2_json(m) : llama_json(config.family, m));
    out["initializer_range"] = as_written(m.init_std);
    out["tie_word_embeddings"] = m.tie_embeddings;
    out["bos_token_id"] = config.begin_of_text;
    out["eos_token_id"] = config.end_of_text;
    if (!config.padding.is_null()) out["pad_token_id"] = config.padding;
    out["torch_dtype"] = dtype_text(config.dtype);
    out["use_cache"] = true;
    return out.dump(2) + "\n";
}

}  // namespace trireme
