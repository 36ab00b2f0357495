#pragma once

#include <string>
#include <vector>

namespace trireme {

// A YAML document as plain data, each part with its line, counted from 1.
struct YamlNode {
    // refused: something that is not allowed stood here and has been reported.
    enum class Kind { null, scalar, list, map, refused };
    struct Key {
        std::string text;
        int line = 0;
    };

    Kind kind = Kind::null;
    int line = 0;
    std::string text;             // of a scalar
    bool quoted = false;          // whether the scalar stood in quotes
    std::vector<YamlNode> items;  // of a list; of a map the values
    std::vector<Key> keys;        // of a map, parallel to items, each only once
};

struct YamlProblem {
    int line = 0;      // 0: the whole text
    std::string text;  // "found a second time, expected once ..."
    std::string key;   // dotted path, empty for syntax errors
};

// Parses a text that nobody vouches for: one document of at most 1 MiB, 32 levels and 100,000
// nodes, valid UTF-8, without tags and merge keys. An alias stands for a copy of what its anchor
// marks, which counts towards these limits. What breaks these rules or the syntax, and every
// duplicate key, is added to `problems`; a text that cannot be used at all gives a refused root.
// Does not throw.
YamlNode parse_yaml(const std::string& text, std::vector<YamlProblem>& problems);

// A text as a YAML scalar that parses back to it, quoted where needed.
std::string yaml_text(const std::string& text);

}  // namespace trireme
