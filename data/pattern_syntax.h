#pragma once

#include <string>
#include <string_view>

namespace trireme {

// Rewrites a splitting pattern for PCRE2 (UTF, UCP). Taken is the part of the syntax that
// Oniguruma, Rust's engines and PCRE2 read the same way: literals, |, (...), (?:...), (?i:...),
// (?=...), (?!...), classes, \p{...} and \P{...} of general categories, \s \S \d \r \n \t, escaped
// punctuation, and the quantifiers ? * + {n} {n,} {n,m}, lazy or (the first three) possessive.
// Error(config) naming `source` and the construct for anything else. White space is spelled out,
// because PCRE2 counts U+180E to it.
std::string pcre2_pattern(std::string_view pattern, const std::string& source);

}  // namespace trireme
