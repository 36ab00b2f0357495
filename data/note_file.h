#pragma once

#include <optional>
#include <string>

namespace trireme {

// A small file of text that a later run may build on: one that is damaged counts as none.

// Replaces the file, durably. Error(io).
void write_note(const std::string& path, const std::string& content);

// Nothing when there is no regular file of that name or its content does not have its checksum.
std::optional<std::string> read_note(const std::string& path);

}  // namespace trireme
