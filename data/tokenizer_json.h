#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace trireme {

// A Hugging Face tokenizer.json with a byte-level BPE model: pre-tokenizer ByteLevel, or a Sequence
// of Split (Regex; Isolated, or Removed and inverted) and ByteLevel; normalizer none or NFC; added
// tokens of every kind; ignore_merges; merges as texts or pairs. Ids are those of the reference
// without the post-processor's additions. `content` may come from anyone; `source` is its name in
// messages. Error(config) naming a feature that is not supported exactly. Error(bad_data): not
// such a file, ids twice or out of range, merges that do not fit the vocabulary.
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view content, const std::string& source,
                                               const TokenizerOptions& options = {});

}  // namespace trireme
