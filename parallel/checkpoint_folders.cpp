#include "parallel/checkpoint_folders.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file_io.h"
#include "core/random_id.h"
#include "parallel/checkpoint_reader.h"

namespace trireme {

namespace fs = std::filesystem;

namespace {

constexpr const char* kStepPrefix = "step-";
constexpr int kFewest = 2;  // valid checkpoints that stay, whatever was asked for
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
    // What can have no such name has no checkpoints either; who wants to write there is told.
    const bool is_absent =
        error == std::errc::no_such_file_or_directory || error == std::errc::filename_too_long;
    if (error && !is_absent) {
        throw Error(ExitCode::io, "cannot list folder " + folder + ": " + error.message());
    }
    return names;
}

std::vector<std::pair<int64_t, std::string>> steps_newest_first(const std::string& folder) {
    std::vector<std::pair<int64_t, std::string>> found;
    for (const std::string& name : names_in(folder)) {
        if (const auto step = step_of(name)) found.emplace_back(*step, name);
    }
    std::sort(found.rbegin(), found.rend());
    return found;
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
    sync_folder(folder);
    remove_tree(trash);
}

}  // namespace

std::string checkpoints_folder_of(const std::string& run_folder) {
    return run_folder + "/checkpoints";
}

std::string step_folder_name(int64_t step) {
    const std::string digits = std::to_string(step);
    const size_t zeros = digits.size() < kStepDigits ? kStepDigits - digits.size() : 0;
    return kStepPrefix + std::string(zeros, '0') + digits;
}

std::optional<std::string> find_newest_checkpoint(const std::string& checkpoints_folder,
                                                  std::vector<std::string>* skipped) {
    for (const auto& [step, name] : steps_newest_first(checkpoints_folder)) {
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
    for (const std::string& folder : {checkpoints_folder_of(path), path}) {
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

std::vector<std::string> list_checkpoints(const std::string& checkpoints_folder) {
    std::vector<std::string> folders;
    for (const auto& [step, name] : steps_newest_first(checkpoints_folder)) {
        folders.push_back(checkpoints_folder + "/" + name);
    }
    return folders;
}

void remove_leftovers(const std::string& folder) {
    try {
        for (const std::string& name : names_in(folder)) {
            const std::string path = folder + "/" + name;
            if (is_leftover(name) && !FolderClaim::exists(path)) remove_tree(path);
        }
    } catch (const Error&) {
        // They only take space; the next call tries again.
    }
}

std::vector<std::string> set_aside_checkpoints(const std::string& folder, int64_t after) {
    std::vector<std::string> names;
    for (const auto& [step, name] : steps_newest_first(folder)) {
        if (step <= after) continue;
        const std::string aside = "superseded-" + name + "-" + random_id();
        rename_path(folder + "/" + name, folder + "/" + aside);
        names.push_back(aside);
    }
    if (!names.empty()) sync_folder(folder);
    return names;
}

void prune_checkpoints(const std::string& folder, int keep, int64_t keep_every, int64_t saved) {
    remove_leftovers(folder);
    try {
        // Only valid ones count, so that damaged newer ones never push out the last good one.
        int kept = 0;
        for (const auto& [step, name] : steps_newest_first(folder)) {
            if (kept < std::max(keep, kFewest)) {
                if (fault_of(folder + "/" + name).empty()) ++kept;
            } else if (step != saved && (keep_every == 0 || step % keep_every != 0)) {
                throw_away(folder, name);
            }
        }
    } catch (const Error&) {
        // Too many checkpoints do no harm; the next call tries again.
    }
}

FolderClaim::FolderClaim(const std::string& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ >= 0) static_cast<void>(flock(descriptor_, LOCK_EX | LOCK_NB));
}

FolderClaim::~FolderClaim() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool FolderClaim::exists(const std::string& folder) {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return false;
    const bool refused = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(descriptor);
    return refused;
}

}  // namespace trireme
