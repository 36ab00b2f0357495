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

    // Appends the ids of `text` to `ids`; adds no end of text.
    virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

    // The bytes of the ids; end of text gives none. Error(bad_data) on an id outside the
    // vocabulary. The bytes need not be valid UTF-8 (a token may end inside a character).
    virtual std::string decode(std::span<const int32_t> ids) const = 0;

    virtual int64_t vocab_size() const = 0;
    virtual int32_t end_of_text() const = 0;
};

// Every byte is its own id, 256 is the end of text: 257 ids, any input, no file needed.
class ByteTokenizer final : public Tokenizer {
public:
    void encode(std::string_view text, std::vector<int32_t>& ids) const override;
    std::string decode(std::span<const int32_t> ids) const override;
    int64_t vocab_size() const override { return 257; }
    int32_t end_of_text() const override { return 256; }
};

// The tokenizer of this name ("byte"). Error(config) for anything else.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

}  // namespace trireme
