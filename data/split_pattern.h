#pragma once

#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;
struct pcre2_real_jit_stack_8;

namespace trireme {

// The patterns of well-known tokenizers.
namespace split_patterns {
extern const std::string_view kGpt2, kCl100k, kQwen, kO200k;
}

// Cuts text into pieces: each match of a pattern is one, and so is what lies between two matches.
class SplitPattern {
public:
    // Error(config) naming `source` when pcre2_pattern() does not take the pattern, PCRE2 cannot
    // compile it, or it matches empty text.
    SplitPattern(std::string_view pattern, const std::string& source);
    ~SplitPattern();
    SplitPattern(SplitPattern&& other) noexcept;
    SplitPattern(const SplitPattern&) = delete;
    SplitPattern& operator=(const SplitPattern&) = delete;

    // What one thread needs to match. It must not outlive the pattern.
    class Matcher {
    public:
        explicit Matcher(const SplitPattern& pattern);
        ~Matcher();
        Matcher(Matcher&& other) noexcept;
        Matcher(const Matcher&) = delete;
        Matcher& operator=(const Matcher&) = delete;

        struct Range {
            size_t begin, end;
        };
        // The first match at or behind `from`; {npos, npos} when there is none. `text` is valid
        // UTF-8, which is not checked. Error(bad_data) when the search takes too many steps.
        Range find(std::string_view text, size_t from);

    private:
        const pcre2_real_code_8* code_;
        bool has_jit_;
        pcre2_real_match_data_8* match_ = nullptr;
        pcre2_real_match_context_8* context_ = nullptr;
        pcre2_real_jit_stack_8* stack_ = nullptr;
    };

private:
    pcre2_real_code_8* code_ = nullptr;
    bool has_jit_ = false;
};

}  // namespace trireme
