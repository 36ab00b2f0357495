#pragma once

#include <string>
#include <vector>

#include "model/model_options.h"

namespace trireme {

// Names of the known model shapes, "none" first.
std::vector<std::string> preset_names();

// Sets the shape of a known model; "none" changes nothing. Values that follow from others by the
// usual defaults (kv_heads, head_dim, ffn_hidden) stay 0, so that keys given beside the preset
// carry through. Throws InternalError for an unknown name.
void apply_preset(const std::string& name, ModelOptions& model);

// The keys under `model.` that a preset stands for.
std::vector<std::string> preset_keys();

}  // namespace trireme
