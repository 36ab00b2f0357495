#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// What a tokenizer's file may ask for.
constexpr size_t kMaxTokenizerBytes = size_t{128} << 20;
constexpr size_t kMaxMerges = 4'000'000;
constexpr int64_t kMaxTokenId = 2'000'000;

// Size and CRC-32C of a file, as text.
std::string content_fingerprint(std::string_view content);

}  // namespace trireme
