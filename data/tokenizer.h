#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// Text to token ids and back. Ids lie in [0, vocab_size()). Safe to call from several threads.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    // Appends the ids of `text` to `ids`; adds no end of text. Text that looks like a special token
    // is text like any other. Tokenizers from files take UTF-8: each broken part of it becomes
    // U+FFFD first (valid_utf8 in data/utf8.h).
    virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

    // The bytes of the ids; special tokens, such as the end of text, give none. Error(bad_data) on
    // an id outside the vocabulary. The bytes need not be valid UTF-8 (a token may end inside a
    // character). Gives back what encode() was given, if that was valid and is not normalized.
    virtual std::string decode(std::span<const int32_t> ids) const = 0;

    virtual int64_t vocab_size() const = 0;
    // Whether decode() takes the id: a vocabulary may have holes.
    virtual bool has_token(int32_t id) const { return id >= 0 && id < vocab_size(); }
    virtual int32_t end_of_text() const = 0;

    // Tokenizers with the same one give the same ids.
    virtual std::string fingerprint() const = 0;
};

// Every byte is its own id, 256 is the end of text: 257 ids, any input, no file needed.
class ByteTokenizer final : public Tokenizer {
public:
    void encode(std::string_view text, std::vector<int32_t>& ids) const override;
    std::string decode(std::span<const int32_t> ids) const override;
    int64_t vocab_size() const override { return 257; }
    int32_t end_of_text() const override { return 256; }
    std::string fingerprint() const override { return "byte"; }
};

struct TokenizerOptions {
    // What text a file's end of text has; empty: the usual names are tried.
    std::string end_of_text = {};
    // Of a tiktoken file, see data/tiktoken_file.h; empty: told by the number of ranks.
    std::string pattern = {};
    // Text that looks like a special token becomes it. Only for text that is trusted.
    bool finds_special = false;
};

// The tokenizer of this name: "byte", or PATH[:PATTERN][:end=TOKEN] of a tokenizer.json or of a
// tiktoken rank file; PATTERN and TOKEN go before those of `options`. Error(config): no such file,
// a feature that is not supported. Error(bad_data): a damaged file.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name, TokenizerOptions options = {});

// The path in such a name, whether the file is there or not; empty for "byte".
std::string tokenizer_file(const std::string& name);

}  // namespace trireme
