#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trireme {

// Cuts text as one of the well-known patterns does (split_patterns in data/split_pattern.h),
// without a regular expression and several times as fast. These patterns match at every place of a
// text, so the pieces lie side by side.
class SplitScanner {
public:
    // For the pattern of exactly this text; one that is not known leaves the scanner empty.
    explicit SplitScanner(std::string_view pattern);

    bool empty() const { return end_of_piece_ == nullptr; }

    // Where the piece ends that begins at `from` < text.size(). Not for an empty scanner. `text` is
    // valid UTF-8, which is not checked, and `from` the beginning of a character.
    size_t end_of_piece(std::string_view text, size_t from) const {
        return end_of_piece_(classes_, text, from);
    }

private:
    using EndOfPiece = size_t (*)(const uint8_t* classes, std::string_view text, size_t from);

    EndOfPiece end_of_piece_ = nullptr;
    const uint8_t* classes_ = nullptr;  // of all code points, for ever
};

}  // namespace trireme
