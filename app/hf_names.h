#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/model_options.h"

namespace trireme {

// The architectures of Hugging Face's transformers that this program's models are.
enum class HfFamily { gpt2, llama, qwen2, qwen3 };

const char* model_type_of(HfFamily family);    // "qwen2", of config.json
const char* architecture_of(HfFamily family);  // "Qwen2ForCausalLM"

// The family whose config.json and tensors say all that the model is. Throws Error (config) naming
// the key that none of them has.
HfFamily hf_family_of(const ModelOptions& model);

// One of this program's parameters, as a range of rows of a tensor of theirs.
struct HfPart {
    std::string parameter;                // "layers.0.attention.query.weight"
    std::array<int64_t, 2> global{1, 0};  // its shape; a vector is [1, n]
    bool is_vector = false;
    int64_t first_row = 0;  // elements, for vectors
};

struct HfTensor {
    std::string name;            // "model.layers.0.self_attn.q_proj.weight"
    std::vector<int64_t> shape;  // as their file has it
    bool is_transposed = false;  // stored as [in, out]; ours are [out, in]
    std::vector<HfPart> parts;   // one behind the other

    uint64_t elements() const;
};

// Every tensor of the model, layer by layer. A tied head is none of them.
std::vector<HfTensor> hf_tensors(HfFamily family, const ModelOptions& model);

// Tensors that some files hold beside the parameters and that the model does not need: masks and
// frequencies that follow from the configuration.
bool is_hf_buffer(HfFamily family, const std::string& name);

// GPT-2's files have names with this prefix or without.
inline constexpr const char* kGpt2Prefix = "transformer.";

}  // namespace trireme
