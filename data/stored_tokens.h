#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/input_file.h"
#include "data/token_type.h"

namespace trireme {

// A token that is no id of the vocabulary.
struct BadToken {
    int64_t index = 0;  // of those that were asked for
    int64_t id = 0;
};

// Reads the tokens that are stored from byte `offset` of the file on, up to the first id outside
// [0, vocab_size), which it returns. Allocates nothing.
std::optional<BadToken> read_to_bad_token(const InputFile& file, int64_t offset, TokenType type,
                                          std::span<int32_t> tokens, int64_t vocab_size);

// Error(bad_data). `place` is the token's, such as "FILE: token 7".
[[noreturn]] void fail_bad_token(const std::string& place, int64_t id, int64_t vocab_size);

// Reads all of them, or throws Error(bad_data) for the first id outside [0, vocab_size), of which
// place_of(index) names file and place.
template <typename PlaceOf>
void read_tokens(const InputFile& file, int64_t offset, TokenType type, std::span<int32_t> tokens,
                 int64_t vocab_size, const PlaceOf& place_of) {
    const int64_t limit = std::min(vocab_size, kAnyVocab);
    const auto bad = read_to_bad_token(file, offset, type, tokens, limit);
    if (bad) fail_bad_token(place_of(bad->index), bad->id, limit);
}

}  // namespace trireme
