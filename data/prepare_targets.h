#pragma once

#include <string>
#include <vector>

namespace trireme {

// Error(output_busy) when a file that prepare writes under these names for datasets `prefixes`, or
// the notes and unfinished files beside them, is one of those that it reads: by what the names lead
// to, not by their text. `output` is the prefix that was asked for.
void check_inputs_are_kept(const std::string& output, const std::vector<std::string>& prefixes,
                           const std::vector<std::string>& inputs, const std::string& tokenizer);

}  // namespace trireme
