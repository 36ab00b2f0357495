#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "app/yaml_tree.h"

namespace trireme {

// Reading of single values. Each function returns what is wrong, "found ..., expected ...", or
// empty, and then has set `to`.

struct WholeRange {
    int64_t least = 0;
    int64_t most = std::numeric_limits<int64_t>::max();
    std::string to_string() const;  // "1 or more", "0 to 3"
};

struct NumberRange {
    double least = 0.0;
    double most = std::numeric_limits<double>::infinity();
    bool above_least = false;  // least itself is not allowed
    bool below_most = false;   // most itself is not allowed
    bool is_single = false;    // kept as a double, but computed with as a float
    std::string to_string() const;
};

// The words a value may be. Those in `unbuilt` are understood, but refused for now.
struct WordList {
    std::vector<std::string> words;
    std::vector<std::string> unbuilt = {};
    std::string to_string() const;  // "gpt2 or llama"
};

std::string read_whole(const YamlNode& node, const WholeRange& range, int64_t& to);
std::string read_number(const YamlNode& node, const NumberRange& range, double& to);
// As above, rounded to float; the range holds for the rounded value. A number that is not 0 must
// not round to 0 or infinity.
std::string read_number(const YamlNode& node, const NumberRange& range, float& to);
std::string read_bool(const YamlNode& node, bool& to);
std::string read_text(const YamlNode& node, std::string& to);
std::string read_word(const YamlNode& node, const WordList& list, size_t& index);

// "found 'abc'", "found a list", "found nothing".
std::string found(const YamlNode& node);

// Shortest text that reads back to the same bits.
std::string number_text(double value);
std::string number_text(float value);

}  // namespace trireme
