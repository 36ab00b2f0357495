#include "app/new_folder.h"

#include <filesystem>

#include "core/error.h"
#include "core/file_io.h"
#include "core/random_id.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace fs = std::filesystem;

namespace {

std::string without_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

void check_free(const std::string& path) {
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(path, ignored))) return;
    if (fs::is_directory(path, ignored) && fs::is_empty(path, ignored)) return;
    throw Error(ExitCode::output_busy,
                path + ": exists already and is not overwritten; give --output another name");
}

}  // namespace

NewFolder::NewFolder(ControlGroup& control, const std::string& path)
    : target_(without_slash(path)),
      temporary_(target_ + kTemporaryMark + control.broadcast(random_id())) {
    control.run("while making a folder", [&] {
        if (control.rank() == 0) make();
    });
}

NewFolder::NewFolder(const std::string& path)
    : target_(without_slash(path)), temporary_(target_ + kTemporaryMark + random_id()) {
    make();
}

void NewFolder::make() {
    check_free(target_);
    create_folders(temporary_);
}

void NewFolder::publish() {
    sync_folder(temporary_);
    check_free(target_);
    rename_path(temporary_, target_);
    const std::string parent = fs::path(target_).parent_path().string();
    sync_folder(parent.empty() ? "." : parent);
}

void NewFolder::give_up() const {
    remove_tree(temporary_);
}

}  // namespace trireme
