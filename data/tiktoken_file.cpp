#include "data/tiktoken_file.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <unordered_set>
#include <utility>

#include "core/crc32c.h"
#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/bytes_hash.h"
#include "data/piece_merge.h"
#include "data/rank_merges.h"
#include "data/tokenizer_limits.h"

namespace trireme {
namespace {

// Bounds the work of finding a token's merge, which grows with the square.
constexpr size_t kMaxTokenBytes = PieceMerge::kMaxBytes;

struct Published {
    std::string_view name;
    size_t n_ranks;
    std::string_view pattern;
    bool nfc;
    // The end of text first.
    std::vector<std::pair<std::string_view, int32_t>> special;
};

std::vector<Published> published_files() {
    using namespace split_patterns;
    return {
        {"gpt2", 50256, kGpt2, false, {{"<|endoftext|>", 50256}}},
        {"r50k", 50256, kGpt2, false, {{"<|endoftext|>", 50256}}},
        {"p50k", 50280, kGpt2, false, {{"<|endoftext|>", 50256}}},
        {"cl100k",
         100256,
         kCl100k,
         false,
         {{"<|endoftext|>", 100257},
          {"<|fim_prefix|>", 100258},
          {"<|fim_middle|>", 100259},
          {"<|fim_suffix|>", 100260},
          {"<|endofprompt|>", 100276}}},
        {"o200k", 199998, kO200k, false, {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
        {"llama3",
         128000,
         kCl100k,
         false,
         {{"<|end_of_text|>", 128001},
          {"<|begin_of_text|>", 128000},
          {"<|start_header_id|>", 128006},
          {"<|end_header_id|>", 128007},
          {"<|eot_id|>", 128009}}},
        {"qwen",
         151643,
         kQwen,
         true,
         {{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}}}};
}

class Reader {
public:
    Reader(const std::string& source, const TokenizerOptions& options)
        : source_(source), options_(options) {
        parts_.source = source;
        parts_.finds_special = options.finds_special;
        parts_.whole_pieces = true;
    }

    BpeTokenizerParts read(std::string_view content) {
        if (content.size() > kMaxTokenizerBytes) {
            bad("has " + std::to_string(content.size()) + " bytes, expected at most " +
                std::to_string(kMaxTokenizerBytes));
        }
        while (!content.empty()) {
            const size_t end = std::min(content.find('\n'), content.size());
            ++line_;
            read_line(content.substr(0, end));
            content.remove_prefix(std::min(end + 1, content.size()));
        }
        for (int byte = 0; byte < 256; ++byte) {
            if (!known_.contains(std::string(1, static_cast<char>(byte)))) {
                bad("no rank for byte " + std::to_string(byte) +
                    ", expected tiktoken's lines of base64 and rank with one for every byte");
            }
        }
        choose_pattern();
        parts_.merges = merges_of_ranks(parts_.tokens);
        return std::move(parts_);
    }

private:
    [[noreturn]] void bad(const std::string& what) const {
        throw Error(ExitCode::bad_data, source_ + ": " + what);
    }
    [[noreturn]] void bad_line(const std::string& what) const {
        throw Error(ExitCode::bad_data, source_ + ":" + std::to_string(line_) + ": " + what +
                                            ", expected a token in base64, a space and its rank");
    }

    void read_line(std::string_view line) {
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty()) return;
        const size_t space = line.find(' ');
        if (space == std::string_view::npos) bad_line("no space");
        const std::string_view digits = line.substr(space + 1);
        int64_t id = -1;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
        if (error != std::errc() || end != digits.data() + digits.size() || id < 0 ||
            id > kMaxTokenId) {
            bad_line("the rank is no whole number from 0 to " + std::to_string(kMaxTokenId));
        }
        std::string token = from_base64(line.substr(0, space));
        const auto at = static_cast<size_t>(id);
        if (at >= parts_.tokens.size()) parts_.tokens.resize(at + 1);
        if (!parts_.tokens[at].empty()) bad_line("rank " + std::to_string(id) + " stands twice");
        if (!known_.insert(token).second) bad_line("the token stands twice");
        parts_.tokens[at] = std::move(token);
    }

    static int value_of(char c) {
        if (c >= 'A' && c <= 'Z') return c - 'A';
        if (c >= 'a' && c <= 'z') return c - 'a' + 26;
        if (c >= '0' && c <= '9') return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
    }

    std::string from_base64(std::string_view text) const {
        if (text.empty() || text.size() % 4 != 0 || text.size() / 4 * 3 > kMaxTokenBytes + 2) {
            bad_line("the token is no base64 of 1 to 256 bytes");
        }
        const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
        std::string bytes;
        uint32_t bits = 0;
        for (size_t i = 0; i < text.size(); ++i) {
            const bool pads = i >= text.size() - padding;
            const int value = pads ? 0 : value_of(text[i]);
            if (value < 0) bad_line("the token is no base64");
            bits = bits << 6 | static_cast<uint32_t>(value);
            if (i % 4 != 3) continue;
            for (int shift = 16; shift >= 0; shift -= 8) {
                bytes.push_back(static_cast<char>(bits >> shift & 0xFF));
            }
            bits = 0;
        }
        bytes.resize(bytes.size() - padding);
        if (bytes.size() > kMaxTokenBytes) bad_line("the token is longer than 256 bytes");
        return bytes;
    }

    void choose_pattern() {
        const std::vector<Published> files = published_files();
        const auto chosen = std::find_if(files.begin(), files.end(), [&](const Published& file) {
            return options_.pattern.empty() ? file.n_ranks == known_.size()
                                            : file.name == options_.pattern;
        });
        if (chosen == files.end()) {
            std::string names;
            for (const Published& file : files) {
                names += (names.empty() ? "" : ", ") + std::string(file.name);
            }
            const std::string what =
                options_.pattern.empty()
                    ? "its " + std::to_string(known_.size()) + " ranks are those of no known file"
                    : "unknown pattern '" + options_.pattern + "'";
            throw Error(ExitCode::config, source_ + ": " + what +
                                              "; name its splitting pattern as FILE:PATTERN, one "
                                              "of " +
                                              names);
        }
        parts_.splits = {{std::string(chosen->pattern), true}};
        parts_.nfc = chosen->nfc;
        if (chosen->n_ranks == known_.size() && parts_.tokens.size() <= chosen->n_ranks + 1) {
            for (const auto& [content, id] : chosen->special) add_special(content, id);
        } else {
            add_special("<|endoftext|>", static_cast<int32_t>(parts_.tokens.size()));
        }
        choose_end_of_text();
    }

    void add_special(std::string_view content, int32_t id) {
        const auto at = static_cast<size_t>(id);
        if (at < parts_.tokens.size() && !parts_.tokens[at].empty()) {
            bad("rank " + std::to_string(id) + " is taken, but belongs to " + std::string(content));
        }
        if (parts_.decoded.empty()) parts_.decoded = parts_.tokens;
        if (at >= parts_.decoded.size()) parts_.decoded.resize(at + 1);
        parts_.tokens.resize(parts_.decoded.size());
        parts_.decoded[at] = content;
        parts_.added.push_back(
            {.id = id, .content = std::string(content), .normalized = false, .special = true});
    }

    void choose_end_of_text() {
        parts_.end_of_text = parts_.added.front().id;
        if (options_.end_of_text.empty()) return;
        for (const AddedToken& token : parts_.added) {
            if (token.content != options_.end_of_text) continue;
            parts_.end_of_text = token.id;
            return;
        }
        throw Error(ExitCode::config,
                    source_ + ": no special token '" + options_.end_of_text + "'");
    }

    const std::string& source_;
    const TokenizerOptions& options_;
    BpeTokenizerParts parts_;
    std::unordered_set<std::string, KeyedHash> known_;
    int64_t line_ = 0;
};

}  // namespace

std::string content_fingerprint(std::string_view content) {
    return std::to_string(content.size()) + " bytes crc32c " +
           crc_text(crc32c(content.data(), content.size()));
}

std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view content,
                                                   const std::string& source,
                                                   const TokenizerOptions& options) {
    BpeTokenizerParts parts = Reader(source, options).read(content);
    parts.fingerprint = "tiktoken " + content_fingerprint(content) + " pattern " +
                        parts.splits[0].pattern + " end " + std::to_string(parts.end_of_text) +
                        (options.finds_special ? " special" : "");
    return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace trireme
