#include "data/input_list.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "core/error.h"
#include "data/text_file.h"

namespace trireme {
namespace {

void add_matches(const std::string& pattern, std::vector<std::string>& paths) {
    glob_t found{};
    const int rc = ::glob(pattern.c_str(), 0, nullptr, &found);
    const std::unique_ptr<glob_t, decltype(&::globfree)> owner(&found, &::globfree);
    if (rc == GLOB_NOMATCH) {
        throw Error(ExitCode::bad_data, "input " + pattern + " matches no file");
    }
    if (rc != 0) throw Error(ExitCode::io, "cannot list the files of input " + pattern);
    const size_t first = paths.size();
    for (size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
    // In the order of bytes, whatever the language of the machine.
    std::sort(paths.begin() + static_cast<std::ptrdiff_t>(first), paths.end());
}

}  // namespace

std::vector<std::string> list_inputs(const std::vector<std::string>& inputs) {
    std::vector<std::string> paths;
    for (const std::string& input : inputs) {
        std::error_code error;
        const bool is_pattern = input.find_first_of("*?[") != std::string::npos;
        if (is_pattern && !std::filesystem::exists(input, error)) {
            add_matches(input, paths);
        } else {
            paths.push_back(input);
        }
    }
    if (std::count_if(paths.begin(), paths.end(), is_standard_input) > 1) {
        throw Error(ExitCode::config, "the standard input '-' is given twice as an input");
    }
    return paths;
}

}  // namespace trireme
