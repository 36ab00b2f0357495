#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// A token that is cut out of the text before it is split into pieces.
struct AddedToken {
    int32_t id = 0;
    std::string content;
    bool single_word = false;  // only where no word character adjoins it
    bool lstrip = false;       // takes the white space before it along
    bool rstrip = false;       // and behind it
    bool normalized = true;    // looked for in normalized text, after the others
    bool special = false;      // a mark of the model's, such as the end of text
};

// Finds one kind of added tokens, normalized or not, in a text: of those that begin furthest left
// the longest, then on behind it.
class AddedTokenFinder {
public:
    // `contents[i]` is what is looked for on behalf of tokens[i]; not empty, all different.
    // With skip_special, special tokens stay text.
    AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& contents,
                     bool skip_special);

    // Whether it could find anything.
    bool empty() const { return nothing_to_find_; }

    // Calls, in order, on_text with each stretch of `text` (valid UTF-8) between tokens that is not
    // empty and on_token with each token's id.
    void split(std::string_view text, const std::function<void(std::string_view)>& on_text,
               const std::function<void(int32_t)>& on_token) const;

private:
    struct Node {
        std::vector<std::pair<uint8_t, int32_t>> next;  // sorted by byte
        int32_t token = -1;
    };
    struct Match {
        size_t begin, end;
        int32_t token;  // -1: none
    };

    void insert(const std::string& content, int32_t token);
    Match find(std::string_view text, size_t from) const;

    std::vector<AddedToken> tokens_;
    bool skip_special_;
    bool nothing_to_find_ = true;
    std::vector<Node> nodes_;  // a trie; the first is its root
    std::vector<bool> begins_;
};

}  // namespace trireme
