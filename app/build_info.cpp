#include "app/build_info.h"

#include "build_commit.h"
#include "core/cuda_backend.h"

namespace trireme {

std::vector<std::string> built_backends() {
    if (cuda_is_built_in()) return {"cpu", "cuda"};
    return {"cpu"};
}

std::string build_commit() {
    return kBuildCommit;
}

std::string version_line() {
    std::string backends;
    for (const std::string& backend : built_backends()) {
        backends += (backends.empty() ? "" : ", ") + backend;
    }
    return std::string("trireme ") + kBuildVersion + " (commit " + kBuildCommit +
           "; back ends: " + backends + ")";
}

}  // namespace trireme
