#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/input_file.h"

namespace trireme {

// How one token is stored in a .bin file; the values are the dtype codes of the .idx format.
enum class TokenType : uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, u16 = 8 };

int64_t size_of(TokenType type);           // bytes
std::string_view name_of(TokenType type);  // "uint16", ...

// Beginning and layout of an .idx file (little endian). Lengths (int32), byte offsets (int64) and
// document indices (int64) follow the header without padding, so they are not aligned.
struct IndexFormat {
    static constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
    static constexpr uint64_t kVersion = 1;
    static constexpr int64_t kHeaderBytes = 34;
};

// Vocabulary size that admits every id an int32 can hold.
inline constexpr int64_t kAnyVocab = int64_t{std::numeric_limits<int32_t>::max()} + 1;

// A tokenized corpus in Megatron's format, PREFIX.bin and PREFIX.idx, opened for reading. Its
// tokens are numbered 0 to n_tokens() - 1 in file order; sequences follow each other without
// gaps, and a document is one sequence or more. The index is in memory (12 bytes a sequence), the
// tokens stay on disk. Const functions may be called from several threads.
class IndexedDataset {
public:
    // Checks the whole index and the size of both files. Error(bad_data) naming file, offset, what
    // was found and what was expected; also for a missing file and for a corpus without tokens.
    explicit IndexedDataset(const std::string& prefix);

    const std::string& prefix() const { return prefix_; }
    TokenType token_type() const { return type_; }
    int64_t n_sequences() const { return static_cast<int64_t>(lengths_.size()); }
    int64_t n_documents() const { return static_cast<int64_t>(documents_.size()) - 1; }
    int64_t n_tokens() const { return n_tokens_; }

    std::span<const int32_t> lengths() const { return lengths_; }  // tokens; [n_sequences]
    int64_t start(int64_t sequence) const { return starts_[static_cast<size_t>(sequence)]; }
    // First sequence of each document, then n_sequences(); [n_documents + 1]
    std::span<const int64_t> documents() const { return documents_; }

    // Reads the tokens from `position` on. Error(bad_data) naming file, document, token offset in
    // the document, id and vocabulary size for an id outside [0, vocab_size). Allocates nothing.
    void read(int64_t position, std::span<int32_t> tokens, int64_t vocab_size = kAnyVocab) const;

private:
    void read_header(const InputFile& index, int64_t* n_sequences, int64_t* n_entries);
    void read_sequences(const InputFile& index, int64_t n_sequences);
    void read_documents(const InputFile& index, int64_t offset, int64_t n_entries);
    void check_token_file() const;
    [[noreturn]] void fail_token(int64_t position, int64_t id, int64_t vocab_size) const;

    std::string prefix_;
    InputFile bin_;
    TokenType type_ = TokenType::i32;
    int64_t n_tokens_ = 0;
    std::vector<int32_t> lengths_;
    std::vector<int64_t> starts_;
    std::vector<int64_t> documents_;
};

}  // namespace trireme
