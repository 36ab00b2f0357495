#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/input_file.h"
#include "data/token_source.h"

namespace trireme {

// Beginning and layout of an .idx file (little endian). Lengths (int32), byte offsets (int64) and
// document indices (int64) follow the header without padding, so they are not aligned.
struct IndexFormat {
    static constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
    static constexpr uint64_t kVersion = 1;
    static constexpr int64_t kHeaderBytes = 34;
};

// A tokenized corpus in Megatron's format, PREFIX.bin and PREFIX.idx, opened for reading. Its
// tokens are numbered in file order, and a document is one sequence or more. The index stays on
// disk as the tokens do.
class IndexedDataset final : public TokenSource {
public:
    // Checks the whole index and the size of both files. Error(bad_data) naming file, offset, what
    // was found and what was expected; also for a missing file and for a corpus without tokens.
    explicit IndexedDataset(const std::string& prefix);

    const std::string& name() const override { return prefix_; }
    TokenType token_type() const override { return type_; }
    int64_t n_documents() const { return n_entries_ - 1; }
    int64_t n_tokens() const override { return n_tokens_; }

    int64_t n_sequences() const override { return n_sequences_; }
    int64_t length(int64_t sequence) const override;
    std::vector<int32_t> read_lengths() const override;
    int64_t start(int64_t sequence) const override;
    // The first sequence of a document; n_sequences() behind the last one.
    int64_t first_sequence(int64_t document) const;

    // The place of a bad id is its document and the token offset in it.
    void read(int64_t position, std::span<int32_t> tokens,
              int64_t vocab_size = kAnyVocab) const override;

private:
    void read_header();
    void check_sequences();
    void check_documents() const;
    int64_t pointers_at() const { return IndexFormat::kHeaderBytes + 4 * n_sequences(); }
    int64_t documents_at() const { return IndexFormat::kHeaderBytes + 12 * n_sequences(); }
    void check_token_file() const;
    [[noreturn]] void fail_changed(int64_t offset, int64_t found) const;
    std::string place_of(int64_t token) const;  // for messages

    std::string prefix_;
    InputFile bin_, idx_;
    TokenType type_ = TokenType::i32;
    int64_t n_tokens_ = 0;
    int64_t n_sequences_ = 0;
    int64_t n_entries_ = 0;  // documents and the end
};

}  // namespace trireme
