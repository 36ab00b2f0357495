#include "parallel/checkpoint_folders.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint.h"

namespace trireme {

namespace fs = std::filesystem;

namespace {

constexpr const char* kStepPrefix = "step-";
constexpr size_t kStepDigits = 8;
constexpr size_t kMaxStepDigits = 18;

bool has_prefix(const std::string& text, const std::string& prefix) {
    return text.compare(0, prefix.size(), prefix) == 0;
}

// The step of a finished checkpoint's folder name, or nothing for any other name.
std::optional<int64_t> step_of(const std::string& name) {
    if (!has_prefix(name, kStepPrefix)) return std::nullopt;
    const std::string digits = name.substr(std::string(kStepPrefix).size());
    if (digits.size() < kStepDigits || digits.size() > kMaxStepDigits) return std::nullopt;
    if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
    return std::stoll(digits);
}

bool is_leftover(const std::string& name) {
    return has_prefix(name, kTrashPrefix) ||
           (has_prefix(name, kStepPrefix) && name.find(kTemporaryMark) != std::string::npos);
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    if (error && error != std::errc::no_such_file_or_directory) {
        throw Error(ExitCode::io, "cannot list folder " + folder + ": " + error.message());
    }
    return names;
}

std::vector<std::string> steps_newest_first(const std::string& folder) {
    std::vector<std::pair<int64_t, std::string>> found;
    for (const std::string& name : names_in(folder)) {
        if (const auto step = step_of(name)) found.emplace_back(*step, name);
    }
    std::sort(found.rbegin(), found.rend());
    std::vector<std::string> names;
    for (auto& [step, name] : found) names.push_back(std::move(name));
    return names;
}

// Why a step folder cannot be used; empty when manifest and file sizes are right.
std::string fault_of(const std::string& step_folder) {
    try {
        CheckpointReader reader(step_folder);
        return "";
    } catch (const Error& error) {
        return error.what();
    }
}

void throw_away(const std::string& folder, const std::string& name) {
    const std::string trash = folder + "/" + kTrashPrefix + name;
    remove_tree(trash);
    rename_path(folder + "/" + name, trash);
    remove_tree(trash);
}

}  // namespace

std::string step_folder_name(int64_t step) {
    const std::string digits = std::to_string(step);
    const size_t zeros = digits.size() < kStepDigits ? kStepDigits - digits.size() : 0;
    return kStepPrefix + std::string(zeros, '0') + digits;
}

std::optional<std::string> find_newest_checkpoint(const std::string& checkpoints_folder,
                                                  std::vector<std::string>* skipped) {
    for (const std::string& name : steps_newest_first(checkpoints_folder)) {
        const std::string folder = checkpoints_folder + "/" + name;
        const std::string fault = fault_of(folder);
        if (fault.empty()) return folder;
        if (skipped != nullptr) skipped->push_back(name + ": " + fault);
    }
    return std::nullopt;
}

std::string resolve_checkpoint(const std::string& path, std::vector<std::string>* skipped) {
    std::error_code ignored;
    if (fs::exists(path + "/" + kManifestName, ignored)) return path;
    std::vector<std::string> damaged;
    for (const std::string& folder : {path + "/checkpoints", path}) {
        if (!fs::is_directory(folder, ignored)) continue;
        if (const auto found = find_newest_checkpoint(folder, &damaged)) {
            if (skipped != nullptr) *skipped = std::move(damaged);
            return *found;
        }
    }
    std::string message = "no usable checkpoint at " + path + ": looked for " + path +
                          "/manifest.json (a step folder) and " + path +
                          "/checkpoints/step-*/manifest.json (a run folder)";
    if (!fs::exists(path, ignored)) message += "; the path does not exist";
    for (const std::string& reason : damaged) message += "; skipped " + reason;
    throw Error(ExitCode::bad_data, message);
}

void prune_checkpoints(const std::string& folder, int keep) {
    try {
        for (const std::string& name : names_in(folder)) {
            if (is_leftover(name)) remove_tree(folder + "/" + name);
        }
        // Only valid ones count, so that damaged newer ones never push out the last good one.
        int kept = 0;
        for (const std::string& name : steps_newest_first(folder)) {
            if (kept >= std::max(keep, 1)) {
                throw_away(folder, name);
            } else if (fault_of(folder + "/" + name).empty()) {
                ++kept;
            }
        }
    } catch (const Error&) {
        // Too many checkpoints do no harm; the next call tries again.
    }
}

}  // namespace trireme
