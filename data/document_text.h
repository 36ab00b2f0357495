#pragma once

#include <string>

#include "data/document_stream.h"

namespace trireme {

// The text of a document that is a JSON line: the string under `key`. Error(bad_data) naming file
// and line when the line is not a JSON object, lacks the key or has something else under it.
std::string text_of_json_line(const RawDocument& line, const std::string& key);

}  // namespace trireme
