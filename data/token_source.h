#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "data/token_type.h"

namespace trireme {

// A tokenized text on disk, opened for reading. Its tokens are numbered 0 to n_tokens() - 1 and
// fall into sequences that follow each other without gaps. Const functions may be called from
// several threads.
class TokenSource {
public:
    virtual ~TokenSource() = default;

    virtual const std::string& name() const = 0;  // as the user gave it
    virtual TokenType token_type() const = 0;
    virtual int64_t n_tokens() const = 0;
    virtual int64_t n_sequences() const = 0;
    virtual int64_t start(int64_t sequence) const = 0;   // its first token
    virtual int64_t length(int64_t sequence) const = 0;  // tokens
    // The same; n_tokens() for the sequence behind the last.
    int64_t border(int64_t sequence) const {
        return sequence < n_sequences() ? start(sequence) : n_tokens();
    }
    // All lengths, read for the caller: 4 bytes a sequence. Throws Error as read does.
    virtual std::vector<int32_t> read_lengths() const = 0;

    // Where documents begin inside a sequence of which no index tells: how far behind `position`,
    // of the `count` tokens from there on, all of one sequence; without that of `position` itself.
    // In order; returns how many. Reads the tokens.
    virtual int64_t inner_documents(int64_t /*position*/, int64_t /*count*/,
                                    std::span<int32_t> /*begins*/) const {  // [count - 1]
        return 0;
    }

    // Reads the tokens from `position` on. Error(bad_data) naming file, place, id and vocabulary
    // size for an id outside [0, vocab_size). Allocates nothing, unless the text has more files
    // than are kept open (TokenShards).
    virtual void read(int64_t position, std::span<int32_t> tokens,
                      int64_t vocab_size = kAnyVocab) const = 0;
};

// Opens the files that a source names and checks all but the tokens; of those it checks what the
// files tell in advance against vocab_size. Error(bad_data) naming the file, what was found and
// what was expected.
std::unique_ptr<TokenSource> open_tokens(const DataSourceOptions& source,
                                         int64_t vocab_size = kAnyVocab);

std::string_view name_of(DataFormat format);  // "auto", "megatron", ...
// The format of that name. Error(config) for any other.
DataFormat data_format_of(std::string_view name);

// The source's format; for one that is to be told by the files, what they are: PREFIX.bin or
// PREFIX.idx, or llm.c's mark in the first of the files. Error(bad_data) when none fits.
DataFormat format_of(const DataSourceOptions& source);

// The files of a source, in order. Error(bad_data) when a pattern matches none.
std::vector<std::string> files_of(const DataSourceOptions& source);

}  // namespace trireme
