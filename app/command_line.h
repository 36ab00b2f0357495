#pragma once

namespace trireme {

// Reads the command line and runs the command that it asks for. Returns its exit code; a usage
// error is told on the standard error and gives ExitCode::config. Throws what the command throws.
int run_command_line(int argc, const char* const* argv);

}  // namespace trireme
