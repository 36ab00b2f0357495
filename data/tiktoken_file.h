#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace trireme {

// A tiktoken rank file: lines of "BASE64 RANK", the rank being the id. It says nothing of the
// pattern, which options.pattern names: gpt2 (or r50k), p50k, cl100k, o200k, llama3 or qwen. When
// that is empty, it is told by the number of ranks of the published files. Files with that number
// get the published special tokens, others one, <|endoftext|>, behind the largest rank. `content`
// may come from anyone; `source` is its name in messages. Error(config): unknown pattern, or none
// fits. Error(bad_data): a line is malformed, a rank or token stands twice, a byte has no rank.
std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view content,
                                                   const std::string& source,
                                                   const TokenizerOptions& options = {});

}  // namespace trireme
