#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/config.h"

namespace trireme::test {

using Sets = std::vector<std::string>;

// The message that a text or its overrides are refused with; empty when they are accepted. Checks
// that the refusal is a configuration error. The text's file is called c.yaml.
std::string refusal(const std::string& text, const Sets& sets = {},
                    std::optional<int> world = std::nullopt);

// A valid configuration of odd sizes (5 layers, 6 heads with 2 kv heads, vocabulary 257), changed
// by overrides: what it is, and what it is refused with.
Config small(const Sets& sets = {});
std::string refusal_of_set(const Sets& sets, std::optional<int> world = std::nullopt);

}  // namespace trireme::test
