#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/indexed_dataset.h"
#include "data/output_file.h"

namespace trireme {

// The type that a dataset with this vocabulary is stored in: uint16 below 65500 ids, else int32.
TokenType token_type_for(int64_t vocab_size);

// The ids as they stand in a .bin file. Error(bad_data) on an id that the type cannot hold.
void pack_tokens(std::span<const int32_t> tokens, TokenType type, std::vector<std::byte>& packed);

// PATH, unless a folder has this name: Error(output_busy).
std::string checked_target(const std::string& path);

// Writes PREFIX.bin and PREFIX.idx. Until finish() both have temporary names; destroyed before,
// it removes them and leaves a former dataset of that name as it was.
class IndexedDatasetWriter {
public:
    // Error(output_busy) when the files cannot be created.
    IndexedDatasetWriter(const std::string& prefix, int64_t vocab_size);
    IndexedDatasetWriter(const std::string& prefix, TokenType type);

    // Appends one sequence to the open document. Error(bad_data) on an id the type cannot hold,
    // Error(io) when the disk refuses.
    void add_sequence(std::span<const int32_t> tokens);
    void end_document();

    // A document of one sequence.
    void add_document(std::span<const int32_t> tokens);

    int64_t n_documents() const { return static_cast<int64_t>(documents_.size()) - 1; }
    int64_t n_tokens() const { return n_tokens_; }

    // Ends the open document if it has sequences, waits until all is on the disk and gives both
    // files their names, the index last.
    void finish();

private:
    void write_index();

    std::string prefix_;
    TokenType type_;
    OutputFile bin_;
    OutputFile idx_;
    int64_t n_tokens_ = 0;
    std::vector<int32_t> lengths_;
    std::vector<int64_t> documents_{0};
    std::vector<std::byte> raw_;
};

}  // namespace trireme
