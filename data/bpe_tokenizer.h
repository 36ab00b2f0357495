#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/split_pattern.h"
#include "data/split_scanner.h"
#include "data/tokenizer.h"

namespace trireme {

struct SplitStep {
    std::string pattern;
    bool drops_gaps = false;  // what lies between two matches gives no tokens
};

// What makes a byte-level BPE tokenizer. The readers of files check all of it beforehand.
struct BpeTokenizerParts {
    std::string source;                // file name, for messages
    std::string fingerprint;           // see Tokenizer
    std::vector<std::string> tokens;   // bytes by id that pieces can become; empty: none
    std::vector<std::string> decoded;  // bytes by id for decode; empty: no such id
    std::vector<BpeMerge> merges;
    bool whole_pieces = false;
    std::vector<SplitStep> splits;  // each cuts the pieces of the one before; none: text is whole
    bool nfc = false;               // text is normalized first
    bool prefix_space = false;      // text between added tokens gets a space if it has none
    std::vector<AddedToken> added;
    bool finds_special = false;  // whether text can become special tokens
    int32_t end_of_text = 0;
};

class BpeTokenizer final : public Tokenizer {
public:
    // Error(config) when a splitting pattern is not supported.
    explicit BpeTokenizer(BpeTokenizerParts parts);
    ~BpeTokenizer() override;

    void encode(std::string_view text, std::vector<int32_t>& ids) const override;
    std::string decode(std::span<const int32_t> ids) const override;
    int64_t vocab_size() const override { return static_cast<int64_t>(parts_.decoded.size()); }
    bool has_token(int32_t id) const override {
        return Tokenizer::has_token(id) && !parts_.decoded[static_cast<size_t>(id)].empty();
    }
    int32_t end_of_text() const override { return parts_.end_of_text; }
    std::string fingerprint() const override { return parts_.fingerprint; }

private:
    struct Scratch;
    class Loan;

    void encode_raw(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;
    void encode_normalized(std::string_view text, Scratch& scratch,
                           std::vector<int32_t>& ids) const;
    void split(std::string_view text, size_t step, Scratch& scratch,
               std::vector<int32_t>& ids) const;
    void encode_pending(Scratch& scratch, std::vector<int32_t>& ids) const;

    BpeTokenizerParts parts_;
    Bpe bpe_;
    std::vector<SplitPattern> patterns_;
    std::vector<SplitScanner> scanners_;  // instead of the pattern, for those that are known
    AddedTokenFinder raw_added_;
    AddedTokenFinder normalized_added_;
    std::vector<bool> is_special_;  // by id

    // Matchers and caches that no call uses now; there are as many as calls at the same time.
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Scratch>> free_;  // with room for all that were made
    mutable size_t n_made_ = 0;
};

}  // namespace trireme
