#pragma once

#include <string>

namespace trireme {

// For what a command writes and must not overwrite. `option` is the one that gave the name.

[[noreturn]] void fail_output_taken(const std::string& path, const std::string& option);
// Throws Error (output_busy) when anything is at `path`, a link that leads nowhere included.
void check_output_free(const std::string& path, const std::string& option);

}  // namespace trireme
