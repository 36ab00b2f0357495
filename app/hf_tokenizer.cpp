#include "app/hf_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "core/error.h"
#include "core/file_io.h"
#include "core/strict_json.h"
#include "data/tokenizer.h"

namespace trireme {

using nlohmann::json;

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostBytes = uint64_t{256} << 20;
constexpr int kMaxDepth = 64;
constexpr const char* kTokenizerName = "tokenizer.json";
constexpr const char* kGenerationName = "generation_config.json";
constexpr const char* kSettingsName = "tokenizer_config.json";
constexpr const char* kCompanions[] = {kSettingsName, "special_tokens_map.json",
                                       "chat_template.jinja"};

bool is_file(const std::string& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

bool copy(const std::string& from, const std::string& to, const char* name) {
    if (!is_file(from + "/" + name)) return false;
    replace_file(to + "/" + name, read_file(from + "/" + name, kMostBytes));
    return true;
}

std::string generation_text(const HfTokenIds& ids) {
    nlohmann::ordered_json out = {{"_from_model_config", true}};
    if (!ids.begin.is_null()) out["bos_token_id"] = ids.begin;
    if (!ids.end.is_null()) out["eos_token_id"] = ids.end;
    if (!ids.padding.is_null()) out["pad_token_id"] = ids.padding;
    return out.dump(2) + "\n";
}

bool is_id(const json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT32_MAX};
}

json member_or_null(const json& object, const char* key) {
    return object.is_object() ? object.value(key, json()) : json();
}

// What the file says of a token, so that its readers find the end of a text.
std::string text_of_token(const std::string& tokenizer, const json& id) {
    const json file = parse_strict_json(read_file(tokenizer, kMostBytes), tokenizer, kMaxDepth);
    for (const json& token : member_or_null(file, "added_tokens")) {
        if (!id.is_null() && member_or_null(token, "id") == id) {
            const json content = member_or_null(token, "content");
            return content.is_string() ? content.get<std::string>() : "";
        }
    }
    return "";
}

std::string settings_text(const std::string& tokenizer, const HfTokenIds& ids, int max_length) {
    nlohmann::ordered_json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                  {"model_max_length", max_length},
                                  {"clean_up_tokenization_spaces", false}};
    const std::string end = text_of_token(tokenizer, ids.end);
    if (!end.empty()) out["eos_token"] = end;
    return out.dump(2) + "\n";
}

// A run may also name a tiktoken file, which Hugging Face's folders do not have.
bool is_tokenizer_json(const std::string& tokenizer) {
    return tokenizer.ends_with(".json") && is_file(tokenizer);
}

}  // namespace

HfTokenIds parse_generation_config(const std::string& text, const std::string& path) {
    const json file = parse_strict_json(text, path, kMaxDepth);
    if (!file.is_object()) {
        throw Error(ExitCode::bad_data, path + ": expected an object, found " + file.type_name());
    }
    const auto ids = [&](const char* key) {
        json value = file.value(key, json());
        // Ways in which files say that there is none.
        if (value == json(-1) || value == json::array()) return json();
        const bool is_list =
            value.is_array() && !value.empty() && std::all_of(value.begin(), value.end(), is_id);
        if (value.is_null() || is_id(value) || is_list) return value;
        throw Error(ExitCode::bad_data,
                    path + ": " + key + ": expected a token id or a list of them");
    };
    return {ids("bos_token_id"), ids("eos_token_id"), ids("pad_token_id")};
}

void carry_tokenizer(const std::string& from, const std::string& to, int64_t vocab_size,
                     const HfTokenIds& ids, std::string& warning) {
    if (!is_file(from + "/" + kTokenizerName)) return;
    create_folders(to);
    copy(from, to, kTokenizerName);
    for (const char* name : kCompanions) copy(from, to, name);
    if (!copy(from, to, kGenerationName)) {
        replace_file(to + "/" + kGenerationName, generation_text(ids));
    }
    const std::string path = from + "/" + kTokenizerName;
    std::unique_ptr<Tokenizer> tokenizer;
    try {
        tokenizer = make_tokenizer(path);
    } catch (const Error& error) {
        if (error.code() != ExitCode::config) throw;
        warning = "the tokenizer is carried along, but generate cannot use it: " +
                  std::string(error.what());
        return;
    }
    if (tokenizer->vocab_size() > vocab_size) {
        throw Error(ExitCode::bad_data, path + ": found " +
                                            std::to_string(tokenizer->vocab_size()) +
                                            " token ids, expected at most the vocab_size " +
                                            std::to_string(vocab_size) +
                                            " of config.json: the tokenizer of another model");
    }
}

HfTokenIds token_ids_of(const std::string& tokenizer, std::string& warning) {
    if (tokenizer == "none") {
        warning =
            "data.tokenizer is none: the folder gets no tokenizer, and nothing is known of the end "
            "of a text";
        return {};
    }
    try {
        const std::string path = folder_of(tokenizer) + "/" + kGenerationName;
        if (is_tokenizer_json(tokenizer) && is_file(path)) {
            return parse_generation_config(read_file(path, kMostBytes), path);
        }
        return {nullptr, make_tokenizer(tokenizer)->end_of_text(), nullptr};
    } catch (const Error& error) {
        warning = "nothing is known of the end of a text: " + std::string(error.what());
        return {};
    }
}

void export_tokenizer(const std::string& tokenizer, const HfTokenIds& ids, const std::string& to,
                      int max_length) {
    const std::string from = folder_of(tokenizer);
    const bool has_file = is_tokenizer_json(tokenizer);
    if (!has_file || !copy(from, to, kGenerationName)) {
        replace_file(to + "/" + kGenerationName, generation_text(ids));
    }
    if (!has_file) return;
    replace_file(to + "/" + kTokenizerName, read_file(tokenizer, kMostBytes));
    for (const char* name : kCompanions) copy(from, to, name);
    if (!is_file(to + "/" + kSettingsName)) {
        replace_file(to + "/" + kSettingsName, settings_text(tokenizer, ids, max_length));
    }
}

}  // namespace trireme
