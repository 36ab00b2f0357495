#pragma once

#include <string>
#include <vector>

#include "app/config.h"

namespace trireme {

// What to warn of when the datasets were not made with data.tokenizer, or not all with the same
// tokenizer, as far as prepare's manifests beside them tell; empty when nothing speaks against
// them. Training does not need the tokenizer, so this is no error, and what cannot be read is left
// to whoever opens the datasets.
std::string tokenizer_warning(const std::vector<DataSourceOptions>& sources, const Config& config);

}  // namespace trireme
