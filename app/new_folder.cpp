#include "app/new_folder.h"

#include <filesystem>
#include <utility>

#include "app/output_name.h"
#include "core/file_io.h"
#include "core/random_id.h"

namespace trireme {

namespace fs = std::filesystem;

namespace {

std::string without_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

void check_folder_free(const std::string& path) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored) && fs::is_empty(path, ignored)) return;
    check_output_free(path, "--output");
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
    check_folder_free(target_);
    create_folders(temporary_);
    is_here_ = true;
}

void NewFolder::publish() {
    sync_folder(temporary_);
    check_folder_free(target_);
    rename_path(temporary_, target_);
    is_here_ = false;
    sync_folder(folder_of(target_));
}

void NewFolder::give_up() noexcept {
    if (std::exchange(is_here_, false)) remove_tree(temporary_);
}

}  // namespace trireme
