#pragma once

#include <string>
#include <vector>

namespace trireme {

// The processors that this build can compute on: "cpu", "cuda".
std::vector<std::string> built_backends();

// "trireme 0.1.0 (commit 2ee4cb6; back ends: cpu)".
std::string version_line();

// The commit this was built from, "-dirty" behind it when files were changed, or "unknown".
std::string build_commit();

}  // namespace trireme
