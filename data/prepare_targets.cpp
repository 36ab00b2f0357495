#include "data/prepare_targets.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "core/error.h"
#include "data/prepare_progress.h"
#include "data/text_file.h"
#include "data/tokenizer.h"

namespace trireme {
namespace {

struct FileIdentity {
    dev_t device = 0;
    ino_t number = 0;
    bool operator==(const FileIdentity&) const = default;
};

// Nothing where there is no such file.
std::optional<FileIdentity> identity_of(const std::string& path) {
    struct stat status {};
    const int rc =
        is_standard_input(path) ? ::fstat(STDIN_FILENO, &status) : ::stat(path.c_str(), &status);
    if (rc != 0) return std::nullopt;
    return FileIdentity{status.st_dev, status.st_ino};
}

std::vector<std::string> targets_of(const std::string& output,
                                    const std::vector<std::string>& prefixes) {
    std::vector<std::string> targets{progress_path(output)};
    for (const std::string& prefix : prefixes) {
        for (const char* ending : {".bin", ".idx", ".json", ".bin.partial", ".idx.partial",
                                   ".json.partial", ".lengths.partial"}) {
            targets.push_back(prefix + ending);
        }
    }
    return targets;
}

}  // namespace

void check_inputs_are_kept(const std::string& output, const std::vector<std::string>& prefixes,
                           const std::vector<std::string>& inputs, const std::string& tokenizer) {
    const std::vector<std::string> targets = targets_of(output, prefixes);
    const auto check = [&](const std::string& what, const std::string& path) {
        const std::optional<FileIdentity> read = identity_of(path);
        if (!read) return;
        for (const std::string& target : targets) {
            if (identity_of(target) != read) continue;
            throw Error(ExitCode::output_busy,
                        what + " " + path + " is the same file as " + target + ", which output " +
                            output +
                            " would overwrite; nothing was written: choose another "
                            "--output");
        }
    };
    for (const std::string& path : inputs) check("input", path);
    const std::string file = tokenizer_file(tokenizer);
    if (!file.empty()) check("tokenizer", file);
}

}  // namespace trireme
