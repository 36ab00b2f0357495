#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/hf_names.h"
#include "core/dtype.h"

namespace trireme {

// What a Hugging Face folder's config.json says.
struct HfConfig {
    HfFamily family = HfFamily::llama;
    ModelOptions model;
    DType dtype = DType::f32;  // that the weights are said to have: f32, bf16 or f16
    // Of the tokenizer: a number, a list of them, or null.
    nlohmann::json begin_of_text, end_of_text, padding;
};

// Reads the text of a config.json, in the key forms of transformers 4 and 5. Whatever would make
// the model compute something else than ours is refused: Error (config) naming `path` and the key;
// Error (bad_data) for a text that is not valid or a value of the wrong type.
HfConfig parse_hf_config(const std::string& text, const std::string& path);

// The text for a model, in the key forms that both understand. Throws as hf_family_of.
std::string hf_config_text(const HfConfig& config);

}  // namespace trireme
