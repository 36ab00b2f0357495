#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/input_file.h"
#include "data/token_source.h"

namespace trireme {

// Whether the file begins with the mark of llm.c's token files. False for what cannot be read.
bool has_llmc_mark(const std::string& path);

// Token files without an index, one behind the other as one text: nanoGPT's (uint16, nothing else)
// or llm.c's (a header of 1024 bytes, then uint16 or uint32). A sequence is a file, or a part of
// one that has more than 2^30 tokens: where documents end only the tokens tell, and nothing is read
// before it is needed. The first 256 files stay open; a read from another opens it anew.
class TokenShards final : public TokenSource {
public:
    // format: nanogpt or llmc. Error(bad_data) naming the file for a bad header, a size that does
    // not fit it, files of different types, and for no token at all.
    TokenShards(std::string name, const std::vector<std::string>& paths, DataFormat format);

    const std::string& name() const override { return name_; }
    TokenType token_type() const override { return type_; }
    int64_t n_tokens() const override { return n_tokens_; }
    int64_t n_sequences() const override { return std::ssize(lengths_); }
    int64_t length(int64_t sequence) const override {
        return lengths_[static_cast<size_t>(sequence)];
    }
    std::vector<int32_t> read_lengths() const override { return lengths_; }
    int64_t start(int64_t sequence) const override {
        return starts_[static_cast<size_t>(sequence)];
    }
    // A document ends with the end of text.
    int64_t inner_documents(int64_t position, int64_t count,
                            std::span<int32_t> begins) const override;
    void read(int64_t position, std::span<int32_t> tokens,
              int64_t vocab_size = kAnyVocab) const override;

    size_t n_files() const { return shards_.size(); }
    // The id between documents that the tools of this format write; and whether it begins a
    // document or ends one.
    int32_t end_of_text() const { return type_ == TokenType::u32 ? 128000 : 50256; }
    bool begins_documents() const { return format_ == DataFormat::llmc; }

private:
    struct Shard {
        std::string path;
        std::optional<InputFile> file;  // open, but for those above the limit of open files
        int64_t first = 0;              // token
        int64_t tokens = 0;
        int64_t header_bytes = 0;
    };

    void add(const std::string& path);
    TokenType read_header(const InputFile& file, Shard& shard) const;
    void read_from(const Shard& shard, int64_t position, std::span<int32_t> tokens,
                   int64_t vocab_size) const;

    std::string name_;
    DataFormat format_;
    TokenType type_ = TokenType::u16;
    std::vector<Shard> shards_;
    std::vector<int32_t> lengths_;
    std::vector<int64_t> starts_;
    int64_t n_tokens_ = 0;
};

}  // namespace trireme
