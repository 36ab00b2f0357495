#include "data/pattern_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/error.h"

namespace trireme {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
constexpr int kMaxRepeat = 1000;
constexpr int kMaxGroupDepth = 32;

constexpr std::string_view kWhiteSpace =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cs", "Cn"};

class Rewriter {
public:
    Rewriter(std::string_view pattern, const std::string& source)
        : pattern_(pattern), source_(source) {}

    std::string run() {
        if (pattern_.empty()) fail("an empty pattern");
        if (pattern_.size() > kMaxPatternBytes) fail("a pattern of more than 4096 bytes");
        while (at_ < pattern_.size()) item();
        if (depth_ != 0) fail("a group that is not closed");
        return std::move(out_);
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(ExitCode::config, source_ + ": the splitting pattern has " + what +
                                          " at byte " + std::to_string(at_) +
                                          ", which is not supported");
    }
    bool begins(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
    void copy(size_t n) {
        out_ += pattern_.substr(at_, n);
        at_ += n;
    }

    void item() {
        const char c = pattern_[at_];
        switch (c) {
            case '(':
                group();
                return;
            case ')':
                if (depth_-- == 0) fail("a ')' without '('");
                copy(1);
                repeatable_ = true;
                return;
            case '|':
                copy(1);
                repeatable_ = false;
                return;
            case '[':
                char_class();
                repeatable_ = true;
                return;
            case '?':
            case '*':
            case '+':
            case '{':
                quantifier();
                return;
            case '\\':
                escape(false);
                repeatable_ = true;
                return;
            case '^':
            case '$':
            case '.':
            case ']':
            case '}':
                fail(std::string("'") + c + "'");
            default:
                copy(1);
                // A quantifier after a byte of a longer character belongs to the whole of it.
                repeatable_ = true;
        }
    }

    void group() {
        if (++depth_ > kMaxGroupDepth) fail("groups nested deeper than 32");
        repeatable_ = false;
        for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!"}) {
            if (begins(opening)) return copy(opening.size());
        }
        if (begins("(?") || begins("(*")) {
            fail("'" + std::string(pattern_.substr(at_, 4)) + "'");
        }
        copy(1);
    }

    void quantifier() {
        if (!repeatable_) fail("a quantifier after nothing");
        const bool counted = pattern_[at_] == '{';
        if (counted) {
            count();
        } else {
            copy(1);
        }
        if (at_ < pattern_.size() && pattern_[at_] == '?') {
            copy(1);
        } else if (at_ < pattern_.size() && pattern_[at_] == '+') {
            if (counted) fail("a possessive counted quantifier");
            copy(1);
        }
        repeatable_ = false;
    }

    void count() {
        size_t at = at_ + 1;
        const auto number = [&] {
            int value = 0;
            const size_t first = at;
            while (at < pattern_.size() && std::isdigit(static_cast<unsigned char>(pattern_[at]))) {
                value = std::min(value * 10 + (pattern_[at++] - '0'), kMaxRepeat + 1);
            }
            return at == first ? -1 : value;
        };
        const int least = number();
        int most = least;
        if (at < pattern_.size() && pattern_[at] == ',') {
            ++at;
            most = number();
        }
        if (least < 0 || at >= pattern_.size() || pattern_[at] != '}') fail("'{'");
        if (least > kMaxRepeat || most > kMaxRepeat) fail("a count above 1000");
        copy(at + 1 - at_);
    }

    void char_class() {
        copy(1);
        if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
        const size_t first = at_;
        for (;;) {
            if (at_ >= pattern_.size()) fail("a class that is not closed");
            const char c = pattern_[at_];
            if (c == ']' && at_ > first) return copy(1);
            if (c == ']' || c == '[' || begins("&&")) {
                fail(std::string("'") + c + "' inside a class");
            }
            if (c == '-' && at_ > first && is_set(at_ + 1)) fail("a range up to a set");
            if (c == '\\') {
                const bool set = is_set(at_);
                escape(true);
                if (set && begins("-") && !begins("-]")) fail("a range from a set");
            } else {
                copy(1);
            }
        }
    }

    // Whether an escape that stands for many characters begins there.
    bool is_set(size_t at) const {
        return at + 1 < pattern_.size() && pattern_[at] == '\\' &&
               std::string_view("sSdpP").find(pattern_[at + 1]) != std::string_view::npos;
    }

    void escape(bool in_class) {
        if (at_ + 1 >= pattern_.size()) fail("a lone '\\'");
        const char c = pattern_[at_ + 1];
        if (c == 's' || (c == 'S' && !in_class)) {
            at_ += 2;
            if (!in_class) out_ += c == 's' ? "[" : "[^";
            out_ += kWhiteSpace;
            if (!in_class) out_ += "]";
        } else if (c == 'p' || c == 'P') {
            property();
        } else if (c == 'd' || c == 'r' || c == 'n' || c == 't' ||
                   std::ispunct(static_cast<unsigned char>(c))) {
            copy(2);
        } else {
            fail(std::string("'\\") + c + "'" + (in_class ? " inside a class" : ""));
        }
    }

    void property() {
        const size_t close = pattern_.find('}', at_);
        if (pattern_.substr(at_ + 2, 1) != "{" || close == std::string_view::npos) {
            fail("a property without {...}");
        }
        const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
        if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
            fail("the property '" + std::string(name.substr(0, 40)) + "'");
        }
        copy(close + 1 - at_);
    }

    std::string_view pattern_;
    const std::string& source_;
    std::string out_;
    size_t at_ = 0;
    int depth_ = 0;
    bool repeatable_ = false;
};

}  // namespace

std::string pcre2_pattern(std::string_view pattern, const std::string& source) {
    return Rewriter(pattern, source).run();
}

}  // namespace trireme
