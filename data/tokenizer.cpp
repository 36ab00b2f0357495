#include "data/tokenizer.h"

#include <filesystem>

#include "core/error.h"
#include "core/file_io.h"
#include "data/tiktoken_file.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_limits.h"

namespace trireme {

namespace {

// The path in a tokenizer's name; what stands behind it goes to the options.
std::string split_name(const std::string& name, TokenizerOptions& options) {
    std::string path = name;
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
    constexpr std::string_view kEnd = ":end=";
    if (const size_t at = path.find(kEnd); at != std::string::npos) {
        options.end_of_text = path.substr(at + kEnd.size());
        path.resize(at);
    }
    const size_t colon = path.rfind(':');
    if (!std::filesystem::exists(path, ignored) && colon != std::string::npos) {
        options.pattern = path.substr(colon + 1);
        path.resize(colon);
    }
    return path;
}

}  // namespace

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

std::string tokenizer_file(const std::string& name) {
    if (name == "byte") return "";
    TokenizerOptions ignored;
    return split_name(name, ignored);
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name, TokenizerOptions options) {
    if (name == "byte") return std::make_unique<ByteTokenizer>();
    const std::string path = split_name(name, options);
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) {
        throw Error(ExitCode::config, "tokenizer '" + name +
                                          "': no such file; expected 'byte', or the path of a "
                                          "tokenizer.json or a tiktoken rank file");
    }
    const std::string content = read_file(path, kMaxTokenizerBytes);
    const size_t first = content.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) throw Error(ExitCode::bad_data, path + ": the file is empty");
    return content[first] == '{' ? tokenizer_from_json(content, path, options)
                                 : tokenizer_from_tiktoken(content, path, options);
}

}  // namespace trireme
