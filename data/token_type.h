#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace trireme {

// How one token is stored in a file; the values up to 8 are the dtype codes of the .idx format.
enum class TokenType : uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, u16 = 8, u32 = 128 };

int64_t size_of(TokenType type);           // bytes
std::string_view name_of(TokenType type);  // "uint16", ...

// Vocabulary size that admits every id an int32 can hold.
inline constexpr int64_t kAnyVocab = int64_t{std::numeric_limits<int32_t>::max()} + 1;

// Widens as many stored tokens as `tokens` has room for. Returns how many were good before the
// first id outside [0, vocab_size), which `bad` then is.
size_t widen_tokens(TokenType type, const std::byte* raw, std::span<int32_t> tokens,
                    int64_t vocab_size, int64_t* bad);

}  // namespace trireme
