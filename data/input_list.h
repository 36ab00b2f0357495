#pragma once

#include <string>
#include <vector>

namespace trireme {

// The files that `inputs` name, in order: a pattern with * ? or [ that is no file itself stands for
// the files that match, sorted. Error(bad_data) when none does. "-" may stand once: Error(config).
std::vector<std::string> list_inputs(const std::vector<std::string>& inputs);

}  // namespace trireme
