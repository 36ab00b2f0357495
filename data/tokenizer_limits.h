#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// What a tokenizer's file may ask for.
constexpr size_t kMaxTokenizerBytes = size_t{128} << 20;
constexpr size_t kMaxMerges = size_t{1} << 23;
constexpr int64_t kMaxTokenId = (int64_t{1} << 22) - 1;

// Size and CRC-32C of a file, as text.
std::string content_fingerprint(std::string_view content);

}  // namespace trireme
