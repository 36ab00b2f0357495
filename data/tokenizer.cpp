#include "data/tokenizer.h"

#include "core/error.h"

namespace trireme {

void ByteTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
    const size_t first = ids.size();
    ids.resize(first + text.size());
    for (size_t i = 0; i < text.size(); ++i) ids[first + i] = static_cast<unsigned char>(text[i]);
}

std::string ByteTokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    text.reserve(ids.size());
    for (const int32_t id : ids) {
        if (id < 0 || id >= vocab_size()) {
            throw Error(ExitCode::bad_data, "cannot decode token id " + std::to_string(id) +
                                                ": the byte tokenizer has ids 0 to 256");
        }
        if (id != end_of_text()) text.push_back(static_cast<char>(static_cast<unsigned char>(id)));
    }
    return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
    if (name == "byte") return std::make_unique<ByteTokenizer>();
    throw Error(ExitCode::config,
                "tokenizer '" + name + "': only 'byte' is built in today; use 'byte'");
}

}  // namespace trireme
