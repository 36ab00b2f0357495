#include "app/output_name.h"

#include <filesystem>

#include "core/error.h"

namespace trireme {

void fail_output_taken(const std::string& path, const std::string& option) {
    throw Error(ExitCode::output_busy,
                path + ": exists already and is not overwritten; give " + option + " another name");
}

void check_output_free(const std::string& path, const std::string& option) {
    std::error_code ignored;
    if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) {
        fail_output_taken(path, option);
    }
}

}  // namespace trireme
