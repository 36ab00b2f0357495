#include "data/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/strict_json.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_level.h"
#include "data/bytes_hash.h"
#include "data/nfc.h"
#include "data/tokenizer_limits.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 12;
constexpr size_t kMaxAddedBytes = size_t{1} << 20;

// Names of the end of text in use, the most particular first.
constexpr std::array<std::string_view, 6> kEndNames = {"<|endoftext|>",
                                                       "<|end_of_text|>",
                                                       "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                                       "<|eos|>",
                                                       "</s>",
                                                       "<eos>"};

class Reader {
public:
    Reader(const std::string& source, const TokenizerOptions& options)
        : source_(source), options_(options) {
        parts_.source = source;
        parts_.finds_special = options.finds_special;
    }

    BpeTokenizerParts read(std::string_view content) {
        if (!options_.pattern.empty()) {
            throw Error(ExitCode::config, source_ + ": found the pattern '" + options_.pattern +
                                              "' in the tokenizer's name, but a tokenizer.json "
                                              "brings its own; leave it out");
        }
        if (content.size() > kMaxTokenizerBytes) {
            bad("has " + std::to_string(content.size()) + " bytes, expected at most " +
                std::to_string(kMaxTokenizerBytes));
        }
        const json file = parse_strict_json(content, source_, kMaxDepth);
        if (string_member(file, "version", source_) != "1.0") {
            unsupported("version " + file["version"].dump() + ", expected \"1.0\"");
        }
        known_keys(file, "the file",
                   {"version", "truncation", "padding", "added_tokens", "normalizer",
                    "pre_tokenizer", "post_processor", "decoder", "model"});
        for (const char* key : {"truncation", "padding"}) {
            if (!member_or_null(file, key).is_null()) {
                unsupported(std::string(key) + "; set it to null");
            }
        }
        read_normalizer(member_or_null(file, "normalizer"));
        read_pre_tokenizer(member(file, "pre_tokenizer", source_));
        read_post_processor(member_or_null(file, "post_processor"));
        if (type_of(member(file, "decoder", source_), "decoder") != "ByteLevel") {
            unsupported("decoder " + type_of(file["decoder"], "decoder") + ", expected ByteLevel");
        }
        read_model(member(file, "model", source_));
        read_added_tokens(member_or_null(file, "added_tokens"));
        finish_vocabulary();
        find_end_of_text();
        return std::move(parts_);
    }

private:
    [[noreturn]] void bad(const std::string& what) const {
        throw Error(ExitCode::bad_data, source_ + ": " + what);
    }
    [[noreturn]] void unsupported(const std::string& what) const {
        throw Error(ExitCode::config, source_ + ": not supported: " + what);
    }

    static const json& member_or_null(const json& object, const char* key) {
        static const json null;
        const auto found = object.find(key);
        return found == object.end() ? null : *found;
    }
    bool flag(const json& object, const char* key, bool otherwise) const {
        const json& value = member_or_null(object, key);
        if (value.is_null()) return otherwise;
        if (!value.is_boolean()) bad("'" + std::string(key) + "' is not true or false");
        return value.get<bool>();
    }
    std::string type_of(const json& object, const std::string& what) const {
        if (object.is_null()) return "null";
        if (!object.is_object()) bad(what + " is not an object");
        return string_member(object, "type", source_);
    }
    void known_keys(const json& object, const std::string& what,
                    std::initializer_list<std::string_view> names) const {
        if (!object.is_object()) bad(what + " is not an object");
        for (const auto& item : object.items()) {
            if (std::find(names.begin(), names.end(), item.key()) == names.end()) {
                unsupported("'" + item.key().substr(0, 80) + "' in " + what);
            }
        }
    }
    const json& list_member(const json& object, const char* key) const {
        const json& list = member(object, key, source_);
        if (!list.is_array()) bad("'" + std::string(key) + "' is not a list");
        return list;
    }

    void read_normalizer(const json& normalizer) {
        const std::string type = type_of(normalizer, "normalizer");
        if (type == "null") return;
        if (type == "Sequence") {
            known_keys(normalizer, "normalizer", {"type", "normalizers"});
            for (const json& part : list_member(normalizer, "normalizers")) {
                if (type_of(part, "normalizer") == "Sequence") unsupported("nested normalizers");
                read_normalizer(part);
            }
        } else if (type == "NFC") {
            known_keys(normalizer, "normalizer", {"type"});
            parts_.nfc = true;
        } else {
            unsupported("normalizer " + type + ", expected null or NFC");
        }
    }

    void read_pre_tokenizer(const json& pre) {
        const std::string type = type_of(pre, "pre_tokenizer");
        if (type == "ByteLevel") {
            read_byte_level(pre, true);
        } else if (type == "Sequence") {
            known_keys(pre, "pre_tokenizer", {"type", "pretokenizers"});
            const json& list = list_member(pre, "pretokenizers");
            for (size_t i = 0; i < list.size(); ++i) {
                const std::string part = type_of(list[i], "pre_tokenizer");
                if (part == "ByteLevel" && i + 1 == list.size()) {
                    read_byte_level(list[i], list.size() == 1);
                } else if (part == "Split" && i + 1 < list.size()) {
                    read_split(list[i]);
                } else {
                    unsupported("pre_tokenizer " + part + " at place " + std::to_string(i + 1) +
                                " of a Sequence, expected Split and at the end ByteLevel");
                }
            }
            if (list.empty()) unsupported("an empty pre_tokenizer Sequence");
        } else {
            unsupported("pre_tokenizer " + type +
                        ", expected ByteLevel or a Sequence of Split and ByteLevel");
        }
    }

    void read_byte_level(const json& byte_level, bool alone) {
        known_keys(byte_level, "ByteLevel",
                   {"type", "add_prefix_space", "trim_offsets", "use_regex"});
        parts_.prefix_space = flag(byte_level, "add_prefix_space", true);
        if (parts_.prefix_space && !alone) {
            unsupported("ByteLevel with add_prefix_space behind a Split");
        }
        if (flag(byte_level, "use_regex", true)) {
            parts_.splits.push_back({std::string(split_patterns::kGpt2), false});
        }
    }

    void read_split(const json& split) {
        known_keys(split, "Split", {"type", "pattern", "behavior", "invert"});
        const json& pattern = member(split, "pattern", source_);
        if (!pattern.is_object() || !pattern.contains("Regex")) {
            unsupported("Split by a String pattern, expected a Regex");
        }
        if (parts_.splits.size() == 16) unsupported("more than 16 Splits");
        const std::string& behavior = string_member(split, "behavior", source_);
        const bool invert = flag(split, "invert", false);
        // What an inverted Removed removes is what lies between the matches.
        const bool drops_gaps = behavior == "Removed" && invert;
        if (!drops_gaps && (behavior != "Isolated" || invert)) {
            unsupported("Split with behavior " + behavior + (invert ? ", inverted" : ""));
        }
        parts_.splits.push_back({string_member(pattern, "Regex", source_), drops_gaps});
    }

    // What it adds around a text is not for training; it changes nothing between.
    void read_post_processor(const json& post) const {
        const std::string type = type_of(post, "post_processor");
        if (type == "Sequence") {
            for (const json& part : list_member(post, "processors")) {
                if (type_of(part, "post_processor") == "Sequence") {
                    unsupported("nested post_processors");
                }
                read_post_processor(part);
            }
        } else if (type != "null" && type != "ByteLevel" && type != "TemplateProcessing") {
            unsupported("post_processor " + type);
        }
    }

    void read_model(const json& model) {
        known_keys(
            model, "the model",
            {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
             "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
        if (type_of(model, "model") != "BPE") {
            unsupported("model " + type_of(model, "model") + ", expected BPE");
        }
        const json& dropout = member_or_null(model, "dropout");
        if (!dropout.is_null() && dropout != 0) unsupported("dropout");
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const json& value = member_or_null(model, key);
            if (!value.is_null() && value != "") unsupported(key);
        }
        if (flag(model, "byte_fallback", false)) unsupported("byte_fallback");
        parts_.whole_pieces = flag(model, "ignore_merges", false);
        read_vocabulary(member(model, "vocab", source_));
        read_merges(list_member(model, "merges"));
    }

    size_t checked_id(const json& value, const std::string& token) const {
        const int64_t id = whole_number(value, source_, "the id of '" + token + "'");
        if (id > kMaxTokenId) {
            bad("id " + std::to_string(id) + " of '" + token + "', expected at most " +
                std::to_string(kMaxTokenId));
        }
        return static_cast<size_t>(id);
    }

    void read_vocabulary(const json& vocab) {
        if (!vocab.is_object()) bad("'vocab' is not an object");
        ids_.reserve(vocab.size());
        for (const auto& [token, value] : vocab.items()) {
            if (token.empty()) bad("an empty token in the vocabulary");
            const size_t id = checked_id(value, token);
            if (id >= parts_.decoded.size()) {
                parts_.decoded.resize(id + 1);
                parts_.tokens.resize(id + 1);
            }
            if (!parts_.decoded[id].empty()) {
                bad("id " + std::to_string(id) +
                    " stands twice in the vocabulary, the second "
                    "time for '" +
                    token + "'");
            }
            ids_.emplace(token, static_cast<int32_t>(id));
            // Tokens with other characters are never made of text.
            std::optional<std::string> bytes = bytes_of_byte_level(token);
            if (bytes) parts_.tokens[id] = *bytes;
            parts_.decoded[id] = bytes ? std::move(*bytes) : token;
        }
        for (int byte = 0; byte < 256; ++byte) {
            const char c = static_cast<char>(byte);
            if (!ids_.contains(byte_level_of({&c, 1}))) {
                unsupported("a vocabulary without a token for byte " + std::to_string(byte) +
                            " (the reference would drop this byte)");
            }
        }
    }

    int32_t id_of(const std::string& token, size_t rank) const {
        const auto found = ids_.find(token);
        if (found == ids_.end()) {
            bad("merge " + std::to_string(rank) + " has or makes '" + token.substr(0, 80) +
                "', which is not in the vocabulary");
        }
        return found->second;
    }

    void read_merges(const json& merges) {
        if (merges.size() > kMaxMerges) bad("more than 4000000 merges");
        std::unordered_set<uint64_t, KeyedHash> pairs;
        pairs.reserve(merges.size());
        parts_.merges.reserve(merges.size());
        for (size_t rank = 0; rank < merges.size(); ++rank) {
            const auto [left, right] = pair_of(merges[rank], rank);
            const BpeMerge merge{id_of(left, rank), id_of(right, rank), id_of(left + right, rank),
                                 static_cast<int32_t>(rank)};
            const uint64_t key =
                static_cast<uint64_t>(merge.left) << 32 | static_cast<uint32_t>(merge.right);
            if (!pairs.insert(key).second) {
                bad("merge " + std::to_string(rank) + " of '" + left + "' and '" + right +
                    "' stands twice");
            }
            parts_.merges.push_back(merge);
        }
    }

    std::pair<std::string, std::string> pair_of(const json& merge, size_t rank) const {
        const std::string name = "merge " + std::to_string(rank);
        if (merge.is_array()) {
            if (merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
                bad(name + " is not a pair of strings");
            }
            return {merge[0].get<std::string>(), merge[1].get<std::string>()};
        }
        if (!merge.is_string()) bad(name + " is neither a string nor a pair");
        const std::string& text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
            bad(name + " is not two tokens with one space between them");
        }
        return {text.substr(0, space), text.substr(space + 1)};
    }

    void read_added_tokens(const json& list) {
        if (list.is_null()) return;
        if (!list.is_array()) bad("'added_tokens' is not a list");
        std::unordered_set<std::string, KeyedHash> contents;
        std::unordered_set<int32_t> taken;
        size_t n_bytes = 0;
        for (const json& item : list) {
            known_keys(
                item, "an added token",
                {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
            AddedToken token;
            token.content = string_member(item, "content", source_);
            if (token.content.empty()) bad("an added token is empty");
            n_bytes += token.content.size();
            if (n_bytes > kMaxAddedBytes) bad("more than 1 MiB of added tokens");
            token.special = flag(item, "special", false);
            token.single_word = flag(item, "single_word", false);
            token.lstrip = flag(item, "lstrip", false);
            token.rstrip = flag(item, "rstrip", false);
            token.normalized = flag(item, "normalized", !token.special);
            const size_t id = checked_id(member(item, "id", source_), token.content);
            token.id = static_cast<int32_t>(id);
            std::string storage;
            const bool by_nfc = token.normalized && parts_.nfc;
            const std::string key = std::string(token.normalized ? "n" : "r") +
                                    std::string(by_nfc ? to_nfc(token.content, storage)
                                                       : std::string_view(token.content));
            if (!contents.insert(key).second || !taken.insert(token.id).second) {
                bad("added token '" + token.content + "' or its id " + std::to_string(id) +
                    " stands twice");
            }
            const auto known = ids_.find(token.content);
            if (known != ids_.end() ? known->second != token.id
                                    : id < parts_.decoded.size() && !parts_.decoded[id].empty()) {
                bad("added token '" + token.content + "' has id " + std::to_string(id) +
                    ", but the vocabulary says otherwise");
            }
            parts_.added.push_back(std::move(token));
        }
    }

    void finish_vocabulary() {
        for (const AddedToken& token : parts_.added) {
            const auto id = static_cast<size_t>(token.id);
            if (id >= parts_.decoded.size()) parts_.decoded.resize(id + 1);
            parts_.decoded[id] = token.content;
        }
        parts_.tokens.resize(parts_.decoded.size());
    }

    void find_end_of_text() {
        std::vector<std::string> names(kEndNames.begin(), kEndNames.end());
        if (!options_.end_of_text.empty()) names = {options_.end_of_text};
        for (const std::string& name : names) {
            for (const AddedToken& token : parts_.added) {
                if (token.content != name) continue;
                parts_.end_of_text = token.id;
                return;
            }
            const auto found = ids_.find(name);
            if (found == ids_.end()) continue;
            parts_.end_of_text = found->second;
            return;
        }
        std::string special;
        for (const AddedToken& token : parts_.added) {
            if (token.special && special.size() < 200) special += " " + token.content;
        }
        throw Error(ExitCode::config,
                    source_ + ": no token " +
                        (options_.end_of_text.empty() ? "with a usual name for the end of text"
                                                      : "'" + options_.end_of_text + "'") +
                        "; name one as FILE:end=TOKEN, special ones are" +
                        (special.empty() ? " none" : special));
    }

    const std::string& source_;
    const TokenizerOptions& options_;
    BpeTokenizerParts parts_;
    std::unordered_map<std::string, int32_t, KeyedHash> ids_;  // of the vocabulary
};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view content, const std::string& source,
                                               const TokenizerOptions& options) {
    BpeTokenizerParts parts = Reader(source, options).read(content);
    parts.fingerprint = "tokenizer.json " + content_fingerprint(content) + " end " +
                        std::to_string(parts.end_of_text) +
                        (options.finds_special ? " special" : "");
    return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace trireme
