#include "data/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>
#include <utility>

#include "core/error.h"
#include "data/pattern_syntax.h"

namespace trireme {

namespace split_patterns {

const std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const std::string_view kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const std::string_view kQwen = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                               R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace split_patterns

namespace {

constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapKib = 1u << 20;
constexpr size_t kFirstStackBytes = size_t{64} << 10;
constexpr size_t kMostStackBytes = size_t{8} << 20;

std::string message_of(int code) {
    PCRE2_UCHAR text[256];
    ::pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

}  // namespace

SplitPattern::SplitPattern(std::string_view pattern, const std::string& source) {
    const std::string rewritten = pcre2_pattern(pattern, source);
    int error = 0;
    PCRE2_SIZE at = 0;
    code_ = ::pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &at, nullptr);
    if (code_ == nullptr) {
        throw Error(ExitCode::config,
                    source + ": the splitting pattern is not supported: " + message_of(error) +
                        " (byte " + std::to_string(at) + " of " + rewritten + ")");
    }
    uint32_t matches_empty = 0;
    ::pcre2_pattern_info(code_, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) {
        ::pcre2_code_free(code_);
        throw Error(ExitCode::config, source +
                                          ": the splitting pattern can match empty text, which is "
                                          "not supported");
    }
    has_jit_ = ::pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE) == 0;
}

SplitPattern::~SplitPattern() {
    ::pcre2_code_free(code_);
}

SplitPattern::SplitPattern(SplitPattern&& other) noexcept
    : code_(std::exchange(other.code_, nullptr)), has_jit_(other.has_jit_) {}

SplitPattern::Matcher::Matcher(const SplitPattern& pattern)
    : code_(pattern.code_),
      has_jit_(pattern.has_jit_),
      match_(::pcre2_match_data_create(1, nullptr)),
      context_(::pcre2_match_context_create(nullptr)),
      stack_(::pcre2_jit_stack_create(kFirstStackBytes, kMostStackBytes, nullptr)) {
    if (match_ == nullptr || context_ == nullptr) throw std::bad_alloc();
    ::pcre2_set_match_limit(context_, kMatchLimit);
    ::pcre2_set_heap_limit(context_, kHeapKib);
    if (stack_ != nullptr) ::pcre2_jit_stack_assign(context_, nullptr, stack_);
}

SplitPattern::Matcher::~Matcher() {
    ::pcre2_match_data_free(match_);
    ::pcre2_match_context_free(context_);
    ::pcre2_jit_stack_free(stack_);
}

SplitPattern::Matcher::Matcher(Matcher&& other) noexcept
    : code_(other.code_),
      has_jit_(other.has_jit_),
      match_(std::exchange(other.match_, nullptr)),
      context_(std::exchange(other.context_, nullptr)),
      stack_(std::exchange(other.stack_, nullptr)) {}

SplitPattern::Matcher::Range SplitPattern::Matcher::find(std::string_view text, size_t from) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit_) {
        rc = ::pcre2_jit_match(code_, subject, text.size(), from, 0, match_, context_);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its state on the heap
        rc = ::pcre2_match(code_, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           match_, context_);
    }
    if (rc == PCRE2_ERROR_NOMATCH) return {std::string_view::npos, std::string_view::npos};
    if (rc < 0) {
        throw Error(ExitCode::bad_data, "the tokenizer's splitting pattern failed on a text of " +
                                            std::to_string(text.size()) +
                                            " bytes: " + message_of(rc));
    }
    const PCRE2_SIZE* range = ::pcre2_get_ovector_pointer(match_);
    return {range[0], range[1]};
}

}  // namespace trireme
