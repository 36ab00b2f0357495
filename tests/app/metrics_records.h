#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trireme::test {

// Records of a metrics.jsonl that have this key.
std::vector<nlohmann::json> records_with(const std::string& path, const std::string& key);

}  // namespace trireme::test
