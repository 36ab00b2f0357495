#include "data/split_scanner.h"

#include "data/code_point_class.h"
#include "data/split_pattern.h"

namespace trireme {
namespace {

using namespace code_point_class;

constexpr uint8_t kLetter = kUpper | kLower | kCaseless;
constexpr uint8_t kWhite = kSpace | kLineEnd;
constexpr uint8_t kSymbol = kMark | kOther;  // [^\s\p{L}\p{N}]

// Walks over a text by classes of characters; places are pointers. The end of the text has no
// class.
class Walk {
public:
    Walk(const uint8_t* classes, const char* end) : classes_(classes), end_(end) {}

    struct Character {
        uint8_t kind;
        const char* behind;
    };
    Character at(const char* place) const {
        if (place == end_) return {0, place};
        const auto byte = [place](int i) { return static_cast<uint32_t>(place[i]) & 0x3Fu; };
        const auto first = static_cast<uint32_t>(static_cast<uint8_t>(*place));
        if (first < 0x80) return {classes_[first], place + 1};
        if (first < 0xE0) return {classes_[(first & 0x1F) << 6 | byte(1)], place + 2};
        if (first < 0xF0) {
            return {classes_[(first & 0xF) << 12 | byte(1) << 6 | byte(2)], place + 3};
        }
        return {classes_[(first & 7) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3)], place + 4};
    }

    // Behind all characters of these kinds that follow each other.
    const char* over(const char* place, uint8_t kinds) const {
        for (;;) {
            const Character next = at(place);
            if ((next.kind & kinds) == 0) return place;
            place = next.behind;
        }
    }

    bool is_one_of(const char* place, std::string_view bytes) const {
        return place != end_ && bytes.find(*place) != std::string_view::npos;
    }

    // Behind '(?i:'s|'t|'re|'ve|'m|'ll|'d)', or `place` where there is none.
    template <bool any_case>
    const char* over_contraction(const char* place) const {
        if (end_ - place < 2 || *place != '\'') return place;
        const auto lower = [](char c) { return any_case && c >= 'A' && c <= 'Z' ? c + 32 : c + 0; };
        const int first = lower(place[1]);
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return place + 2;
        if (end_ - place < 3) return place;
        const int second = lower(place[2]);
        const bool matches = ((first == 'r' || first == 'v') && second == 'e') ||
                             (first == 'l' && second == 'l') ||
                             // U+017F is an s as well when the case does not count.
                             (any_case && place[1] == '\xC5' && place[2] == '\xBF');
        return matches ? place + 3 : place;
    }

    // `\s+(?!\S)|\s+`: white space, but for its last character where text follows and something
    // is left.
    const char* over_white(const char* place) const {
        const char* last = place;
        const char* behind = place;
        for (Character next = at(place); (next.kind & kWhite) != 0; next = at(behind)) {
            last = behind;
            behind = next.behind;
        }
        return behind != end_ && last != place ? last : behind;
    }

    // `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line end of the white space if there is one.
    const char* over_lines(const char* place) const {
        const char* last = place;
        const char* behind = place;
        const char* behind_lines = nullptr;
        for (Character next = at(place); (next.kind & kWhite) != 0; next = at(behind)) {
            last = behind;
            behind = next.behind;
            if (next.kind == kLineEnd) behind_lines = behind;
        }
        if (behind_lines != nullptr) return behind_lines;
        return behind != end_ && last != place ? last : behind;
    }

    // At most `most` numbers.
    const char* over_numbers(const char* place, int most) const {
        for (; most > 0; --most) {
            const Character next = at(place);
            if (next.kind != kNumber) break;
            place = next.behind;
        }
        return place;
    }

private:
    const uint8_t* classes_;
    const char* end_;
};

const char* gpt2_piece(const Walk& walk, const char* begin) {
    const char* contraction = walk.over_contraction<false>(begin);
    if (contraction != begin) return contraction;
    Walk::Character first = walk.at(begin);
    if (*begin == ' ') {
        const Walk::Character second = walk.at(begin + 1);
        if ((second.kind & kWhite) == 0 && second.kind != 0) first = second;
    }
    if ((first.kind & kLetter) != 0) return walk.over(first.behind, kLetter);
    if (first.kind == kNumber) return walk.over(first.behind, kNumber);
    if ((first.kind & kSymbol) != 0) return walk.over(first.behind, kSymbol);
    return walk.over_white(begin);
}

// What cl100k's pattern, Qwen's and o200k's have in common behind the alternatives for words. Line
// ends, and what else is in `tail`, may follow symbols.
const char* rest_piece(const Walk& walk, const char* begin, Walk::Character first, int most_digits,
                       std::string_view tail) {
    if (first.kind == kNumber) return walk.over_numbers(begin, most_digits);
    const char* symbols = *begin == ' ' ? first.behind : begin;
    const char* behind = walk.over(symbols, kSymbol);
    if (behind == symbols) return walk.over_lines(begin);
    while (walk.is_one_of(behind, tail)) ++behind;
    return behind;
}

template <int most_digits>
const char* cl100k_piece(const Walk& walk, const char* begin) {
    const char* contraction = walk.over_contraction<true>(begin);
    if (contraction != begin) return contraction;
    const Walk::Character first = walk.at(begin);
    if ((first.kind & kLetter) != 0) return walk.over(first.behind, kLetter);
    if ((first.kind & (kLineEnd | kNumber)) == 0) {
        const Walk::Character second = walk.at(first.behind);
        if ((second.kind & kLetter) != 0) return walk.over(second.behind, kLetter);
    }
    return rest_piece(walk, begin, first, most_digits, "\r\n");
}

// The word of o200k that begins at `begin`, without a contraction; `begin` when there is none.
// With X for [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and Y for [\p{Ll}\p{Lm}\p{Lo}\p{M}], each with an
// optional character before it, the first alternative is X*Y+ and the second X+Y*.
const char* o200k_word(const Walk& walk, const char* begin, Walk::Character first) {
    constexpr uint8_t kBoth = kCaseless | kMark;
    const bool has_lead = (first.kind & (kLetter | kNumber | kLineEnd)) == 0;
    const char* word = has_lead ? first.behind : begin;
    const char* behind = word;
    const char* behind_both = nullptr;
    Walk::Character next = has_lead ? walk.at(word) : first;
    while ((next.kind & (kUpper | kBoth)) != 0) {
        behind = next.behind;
        if ((next.kind & kBoth) != 0) behind_both = behind;
        next = walk.at(behind);
    }
    if (next.kind == kLower) return walk.over(next.behind, kLower | kBoth);
    // X* gives characters back until Y+ has one.
    if (behind_both != nullptr) return behind_both;
    // A mark is its own word rather than what precedes one that only the second would take.
    if (first.kind == kMark) return first.behind;
    return behind == word ? begin : behind;
}

const char* o200k_piece(const Walk& walk, const char* begin) {
    const Walk::Character first = walk.at(begin);
    const char* word = o200k_word(walk, begin, first);
    if (word != begin) return walk.over_contraction<true>(word);
    return rest_piece(walk, begin, first, 3, "\r\n/");
}

template <const char* piece(const Walk& walk, const char* begin)>
size_t end_of_piece(const uint8_t* classes, std::string_view text, size_t from) {
    const Walk walk(classes, text.data() + text.size());
    return static_cast<size_t>(piece(walk, text.data() + from) - text.data());
}

}  // namespace

SplitScanner::SplitScanner(std::string_view pattern) {
    if (pattern == split_patterns::kGpt2) end_of_piece_ = &trireme::end_of_piece<gpt2_piece>;
    if (pattern == split_patterns::kCl100k) {
        end_of_piece_ = &trireme::end_of_piece<cl100k_piece<3>>;
    }
    if (pattern == split_patterns::kQwen) end_of_piece_ = &trireme::end_of_piece<cl100k_piece<1>>;
    if (pattern == split_patterns::kO200k) end_of_piece_ = &trireme::end_of_piece<o200k_piece>;
    if (!empty()) classes_ = code_point_classes().data();
}

}  // namespace trireme
