#include "data/locked_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/file_io.h"

namespace trireme {
namespace {

[[noreturn]] void fail(ExitCode code, const std::string& what, int error) {
    throw Error(code, what + ": " + std::strerror(error));
}

// Not open when there is none and none is to be created. Only once the lock is held and the name
// still leads to this file it is ours: before, another writer may just have published it.
Descriptor open_locked(const std::string& path, bool creates) {
    const int flags = O_WRONLY | O_CLOEXEC | (creates ? O_CREAT : O_NONBLOCK);
    for (;;) {
        Descriptor file(::open(path.c_str(), flags, 0666));
        if (!file.is_open()) {
            if (!creates && (errno == ENOENT || errno == EISDIR)) return file;
            const std::string what = creates ? "cannot create " : "cannot open ";
            fail(output_error_code(errno), what + path, errno);
        }
        if (::flock(file.number(), LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK) {
                throw Error(ExitCode::output_busy,
                            path +
                                " is being written by another process; wait for it to end or "
                                "choose another output");
            }
            fail(output_error_code(errno), "cannot lock " + path, errno);
        }
        if (is_at(path, file.number())) return file;
    }
}

}  // namespace

LockedFile LockedFile::create(const std::string& path) {
    return {path, open_locked(path, true)};
}

std::optional<LockedFile> LockedFile::find(const std::string& path) {
    Descriptor file = open_locked(path, false);
    if (!file.is_open()) return std::nullopt;
    return LockedFile(path, std::move(file));
}

void LockedFile::sync() {
    if (::fsync(descriptor()) != 0) fail(ExitCode::io, "syncing " + path_, errno);
}

void LockedFile::rename_to(const std::string& path) {
    sync();
    if (::rename(path_.c_str(), path.c_str()) != 0) {
        const int error = errno;
        // A network file system may answer with an error although the rename happened.
        if (!is_at(path, descriptor())) {
            fail(ExitCode::output_busy, "cannot rename " + path_ + " to " + path, error);
        }
    }
    path_ = path;
    sync_folder(folder_of(path));
}

}  // namespace trireme
