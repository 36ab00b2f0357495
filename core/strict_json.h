#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace trireme {

// Parses the content of a file that nobody vouches for. Throws Error (bad_data) naming `source` and
// the offset on a syntax error or invalid UTF-8, and on a duplicate key or nesting deeper than
// `max_depth`.
nlohmann::json parse_strict_json(std::string_view text, const std::string& source, int max_depth);

// A whole number from 0 to 2^63 - 1. `what` names the value in the Error (bad_data) otherwise.
int64_t whole_number(const nlohmann::json& value, const std::string& source,
                     const std::string& what);

// The member of an object. Throws Error (bad_data) when there is none.
const nlohmann::json& member(const nlohmann::json& object, const char* key,
                             const std::string& source);

// A member that is a string. Throws Error (bad_data) otherwise.
const std::string& string_member(const nlohmann::json& object, const char* key,
                                 const std::string& source);

}  // namespace trireme
