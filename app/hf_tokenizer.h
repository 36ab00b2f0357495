#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trireme {

// Ids that a Hugging Face folder says a text begins, ends and is filled up with: a number, a list
// of them, or null.
struct HfTokenIds {
    nlohmann::json begin, end, padding;
};

// Reads the text of a generation_config.json; ids that it does not give are null. Error (bad_data)
// naming `path` for a text that is not valid, or an id that is neither a number nor a list of them.
HfTokenIds parse_generation_config(const std::string& text, const std::string& path);

// Copies the files of the tokenizer, and generation_config.json or what `ids` make of it, from a
// Hugging Face folder to another. Nothing where there is no tokenizer.json. Throws Error
// (bad_data) when that is damaged or has ids that a model of `vocab_size` tokens does not know; one
// with features that our tokenizer lacks is copied all the same, and `warning` says which.
void carry_tokenizer(const std::string& from, const std::string& to, int64_t vocab_size,
                     const HfTokenIds& ids, std::string& warning);

// The ids of text produced with the tokenizer that a run names (data.tokenizer), for config.json.
// Nulls, and a warning why, where it cannot be read any more.
HfTokenIds token_ids_of(const std::string& tokenizer, std::string& warning);

// Writes what a run has of these files into a Hugging Face folder: tokenizer.json,
// tokenizer_config.json and their companions, and generation_config.json.
void export_tokenizer(const std::string& tokenizer, const HfTokenIds& ids, const std::string& to,
                      int max_length);

}  // namespace trireme
