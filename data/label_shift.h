#pragma once

#include <cstdint>
#include <span>

#include "data/token_source.h"

namespace trireme {

// Reads `count` tokens of the corpus from `position` on as entries [at, at + count) of a text of
// T + 1 tokens whose first T are `tokens` and whose last T are `labels`.
void read_shifted(const TokenSource& corpus, int64_t position, int64_t count, int64_t at,
                  std::span<int32_t> tokens, std::span<int32_t> labels, int64_t vocab_size);

}  // namespace trireme
