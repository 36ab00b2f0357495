#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "app/config.h"

namespace trireme {

// Collects what is wrong with a configuration, so that a user learns all of it at once.
class ConfigProblems {
public:
    // One line of the report: "PLACE: KEY: TEXT". An empty place or key is left out.
    void add(const ConfigPlace& place, const std::string& key, const std::string& text);

    bool has(const std::string& key) const { return keys_.count(key) != 0; }

    // Throws Error (config) with all problems, those of the file in its order; the first 100 when
    // there are more.
    void throw_if_any() const;

private:
    struct Problem {
        int line;
        std::string text;
    };

    std::vector<Problem> problems_;
    std::set<std::string> keys_;
};

// A line of a file, counted from 1; 0: the file.
ConfigPlace place_in(const std::string& file, int line);

// The text of a file that a user has written, at most 1 MiB. Throws Error (config) where it cannot
// be read: that is a mistake on the command line, not damaged data.
std::string read_config_file(const std::string& path);

// A user's text for a message: at most 60 characters, control characters as \xNN.
std::string shown(std::string_view text);

// How many letters must be inserted, deleted, replaced or swapped with a neighbour to turn one
// word into the other; anything above `limit` may be reported as limit + 1.
int edit_distance(std::string_view one, std::string_view other, int limit);

// The candidate nearest to a misspelt word, or empty when none is near.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

// The end of a message: "; did you mean 'WORD'?", or empty without a word.
std::string did_you_mean(const std::string& word);

}  // namespace trireme
