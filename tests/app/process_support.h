#pragma once

#include <string>
#include <vector>

namespace trireme::test {

using Arguments = std::vector<std::string>;

struct Outcome {
    int code = -1;  // -1: killed, by the time limit or by a signal
    std::string out, error;
};

// Runs a program in `folder` to its end or to a time limit of 120 seconds.
Outcome run_program(const Arguments& command, const std::string& folder);

// Runs the built trireme, under mpirun for more than one process.
Outcome trireme_in(const std::string& folder, Arguments arguments, int processes = 1);

// So many different lines.
std::string small_text(int lines);

}  // namespace trireme::test
