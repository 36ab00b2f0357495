#include "app/run_folder.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "app/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace fs = std::filesystem;

namespace {

void append_line(const std::string& path, const std::string& line) {
    std::ofstream file(path, std::ios::app);
    file << line << "\n" << std::flush;
    if (!file) throw Error(ExitCode::io, path + ": writing failed");
}

// A run that was started from that very file leaves the user's text as it is; checkpoints hold what
// it was resolved to.
void write_config(const Config& config) {
    const std::string path = config.run.output + "/config.yaml";
    std::error_code missing;
    if (fs::equivalent(config.source, path, missing)) return;
    replace_file(path, dump_config(config));
}

// Of a run before, whose processes may have been more than those that write anew.
void remove_traces(const std::string& folder) {
    const std::string begin = "rank-", end = ".json";
    std::error_code error;
    std::vector<fs::path> former;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (!name.starts_with(begin) || !name.ends_with(end)) continue;
        const size_t digits_end = name.find_first_not_of("0123456789", begin.size());
        const bool has_digits = digits_end > begin.size();
        if (has_digits && digits_end + end.size() == name.size()) former.push_back(entry->path());
    }
    for (const fs::path& path : former) {
        if (!error) fs::remove(path, error);
    }
    if (!error) return;
    throw Error(ExitCode::io, folder + ": the traces of an earlier run cannot be removed: " +
                                  error.message() + "; remove the folder");
}

}  // namespace

void check_run_folder(const std::string& folder) {
    fs::path at = fs::absolute(folder);
    std::error_code unknown;
    while (!fs::exists(at, unknown) && at.has_relative_path()) at = at.parent_path();
    const bool is_folder = fs::is_directory(at, unknown);
    if (is_folder && access(at.c_str(), W_OK | X_OK) == 0) return;
    throw Error(ExitCode::output_busy, "run.output: " + folder +
                                           " cannot be written: " + at.string() +
                                           (is_folder ? " is not writable" : " is not a folder") +
                                           "; choose another run.output");
}

void prepare_run_folder(const Config& config, const ResumePoint& resumed, Log& log) {
    const std::string checkpoints = checkpoints_folder_of(config.run.output);
    for (const std::string& name : set_aside_checkpoints(checkpoints, resumed.step)) {
        log.warn("set aside a checkpoint of a step after the one that this run begins from: " +
                 checkpoints + "/" + name);
    }
    remove_leftovers(checkpoints);
    if (!resumed.record.empty()) append_line(config.run.output + "/resumes.jsonl", resumed.record);
    write_config(config);
    if (config.logging.trace) {
        create_folders(config.run.output + "/trace");
        remove_traces(config.run.output + "/trace");
    }
}

}  // namespace trireme
