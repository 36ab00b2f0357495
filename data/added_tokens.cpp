#include "data/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "core/error.h"
#include "data/utf8.h"

namespace trireme {
namespace {

// \w as Unicode's regular expressions have it: alphabetic, mark, decimal number, connector, joiner.
bool is_word_character(uint32_t c) {
    if (c == 0x200C || c == 0x200D) return true;
    switch (::utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
            return true;
        case UTF8PROC_CATEGORY_SO:  // circled and squared letters
            return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                   (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
        default:
            return false;
    }
}

bool is_single_word(std::string_view text, size_t begin, size_t end) {
    if (begin > 0 && is_word_character(code_point_before(text, begin))) return false;
    return end == text.size() || !is_word_character(next_code_point(text, end));
}

size_t white_space_begin(std::string_view text, size_t end, size_t least) {
    while (end > least) {
        const uint32_t c = code_point_before(text, end);
        if (!is_white_space(c)) break;
        do --end;
        while ((static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u);
    }
    return std::max(end, least);
}

size_t white_space_end(std::string_view text, size_t at) {
    for (size_t next = at; at < text.size(); at = next) {
        if (!is_white_space(next_code_point(text, next))) break;
    }
    return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens,
                                   const std::vector<std::string>& contents, bool skip_special)
    : tokens_(std::move(tokens)), skip_special_(skip_special), nodes_(1), begins_(256) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
        insert(contents[i], static_cast<int32_t>(i));
        if (!(skip_special && tokens_[i].special)) nothing_to_find_ = false;
    }
}

void AddedTokenFinder::insert(const std::string& content, int32_t token) {
    TRIREME_CHECK(!content.empty(), "added tokens that are not empty");
    begins_[static_cast<unsigned char>(content[0])] = true;
    size_t node = 0;
    for (const char c : content) {
        const std::pair<uint8_t, int32_t> key{static_cast<uint8_t>(c), -1};
        auto& next = nodes_[node].next;
        auto at = std::lower_bound(next.begin(), next.end(), key);
        if (at == next.end() || at->first != key.first) {
            at = next.insert(at, {key.first, static_cast<int32_t>(nodes_.size())});
            node = nodes_.size();
            nodes_.emplace_back();
        } else {
            node = static_cast<size_t>(at->second);
        }
    }
    TRIREME_CHECK(nodes_[node].token < 0, "added tokens that differ");
    nodes_[node].token = token;
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, size_t from) const {
    for (size_t begin = from; begin < text.size(); ++begin) {
        if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
        Match match{begin, begin, -1};
        size_t node = 0;
        for (size_t at = begin; at < text.size(); ++at) {
            const std::pair<uint8_t, int32_t> key{static_cast<uint8_t>(text[at]), -1};
            const auto& next = nodes_[node].next;
            const auto found = std::lower_bound(next.begin(), next.end(), key);
            if (found == next.end() || found->first != key.first) break;
            node = static_cast<size_t>(found->second);
            if (nodes_[node].token >= 0) match = {begin, at + 1, nodes_[node].token};
        }
        if (match.token >= 0) return match;
    }
    return {text.size(), text.size(), -1};
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(std::string_view)>& on_text,
                             const std::function<void(int32_t)>& on_token) const {
    size_t done = 0;
    for (Match match = find(text, 0); match.token >= 0; match = find(text, match.end)) {
        const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
        if (skip_special_ && token.special) continue;
        if (token.single_word && !is_single_word(text, match.begin, match.end)) continue;
        size_t begin = match.begin;
        size_t end = match.end;
        if (token.lstrip) begin = white_space_begin(text, begin, std::min(begin, done));
        if (token.rstrip) end = white_space_end(text, end);
        begin = std::max(begin, done);
        if (begin > done) on_text(text.substr(done, begin - done));
        on_token(token.id);
        done = std::max(done, end);
    }
    if (done < text.size()) on_text(text.substr(done));
}

}  // namespace trireme
