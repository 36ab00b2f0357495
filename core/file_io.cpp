#include "core/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"

namespace trireme {

namespace {

std::string reason_of(int error) {
    return std::generic_category().message(error);
}

[[noreturn]] void fail_io(const std::string& what, const std::string& path, int error) {
    throw Error(ExitCode::io, "cannot " + what + " " + path + ": " + reason_of(error));
}

[[noreturn]] void fail_write(const std::string& path, int descriptor, size_t written, size_t bytes,
                             int error) {
    std::string message = "cannot write " + path + ": " + reason_of(error);
    struct statvfs disk {};
    if ((error == ENOSPC || error == EDQUOT) && fstatvfs(descriptor, &disk) == 0) {
        message += "; " + std::to_string(bytes - written) + " of " + std::to_string(bytes) +
                   " bytes still needed, " +
                   std::to_string(static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize) +
                   " bytes free; free space or choose another output folder";
    }
    throw Error(ExitCode::io, message);
}

int open_for_writing(const std::string& path, int how) {
    // As the umask says, but never writable for everybody.
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | how, 0664);
    if (descriptor < 0) fail_io("create", path, errno);
    return descriptor;
}

}  // namespace

File File::open(const std::string& path, Links links) {
    // Without O_NONBLOCK a named pipe would block here before it can be refused.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::follow ? 0 : O_NOFOLLOW);
    const int descriptor = ::open(path.c_str(), flags);
    if (descriptor < 0) {
        const int error = errno;
        if (error == ENOENT || error == ENOTDIR) {
            throw Error(ExitCode::bad_data, "file " + path + " does not exist");
        }
        if (error == ELOOP) {
            throw Error(ExitCode::bad_data, path + " is a symbolic link; expected a regular file");
        }
        fail_io("open", path, error);
    }
    File file(path, descriptor);
    struct stat info {};
    if (fstat(descriptor, &info) != 0) fail_io("examine", path, errno);
    if (!S_ISREG(info.st_mode)) {
        throw Error(ExitCode::bad_data, path + " is not a regular file");
    }
    return file;
}

File File::create(const std::string& path) {
    return File(path, open_for_writing(path, O_CREAT | O_TRUNC));
}

File File::create_new(const std::string& path) {
    return File(path, open_for_writing(path, O_CREAT | O_EXCL));
}

File File::change(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) fail_io("open", path, errno);
    return File(path, descriptor);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

File::~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t File::size() const {
    struct stat info {};
    if (fstat(descriptor_, &info) != 0) fail_io("examine", path_, errno);
    return static_cast<uint64_t>(info.st_size);
}

void File::write_all(const void* data, size_t bytes) {
    const char* from = static_cast<const char*>(data);
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = ::write(descriptor_, from + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail_write(path_, descriptor_, done, bytes, n < 0 ? errno : ENOSPC);
        done += static_cast<size_t>(n);
    }
}

void File::write_all_at(const void* data, size_t bytes, uint64_t offset) {
    const char* from = static_cast<const char*>(data);
    for (size_t done = 0; done < bytes;) {
        const ssize_t n =
            ::pwrite(descriptor_, from + done, bytes - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail_write(path_, descriptor_, done, bytes, n < 0 ? errno : ENOSPC);
        done += static_cast<size_t>(n);
    }
}

void File::reserve(uint64_t bytes) {
    // posix_fallocate would write to every block where the file system cannot do this.
    int error = 0;
    do {
        error = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error == EOPNOTSUPP || error == ENOSYS || error == EINVAL) {
        if (size() >= bytes) return;
        error = ::ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
    }
    if (error != 0) fail_write(path_, descriptor_, 0, bytes, error);
}

size_t File::read_up_to(void* to, size_t bytes, uint64_t offset) const {
    char* into = static_cast<char*>(to);
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n =
            ::pread(descriptor_, into + done, bytes - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_io("read byte " + std::to_string(offset + done) + " of", path_, errno);
        if (n == 0) break;
        done += static_cast<size_t>(n);
    }
    return done;
}

void File::read_all(void* to, size_t bytes, uint64_t offset) const {
    const size_t done = read_up_to(to, bytes, offset);
    if (done == bytes) return;
    throw Error(ExitCode::bad_data, path_ + " ends at byte " + std::to_string(offset + done) +
                                        ", expected " + std::to_string(offset + bytes) +
                                        " bytes at least: it is truncated");
}

void File::sync() {
    if (fsync(descriptor_) != 0) fail_write(path_, descriptor_, 0, size(), errno);
}

void File::close() {
    // The descriptor is gone whatever close answers, so it must not be closed again.
    const int descriptor = std::exchange(descriptor_, -1);
    if (descriptor >= 0 && ::close(descriptor) != 0) fail_io("close", path_, errno);
}

ExitCode output_error_code(int error) {
    const bool is_io =
        error == ENOSPC || error == EDQUOT || error == EIO || error == EMFILE || error == ENFILE;
    return is_io ? ExitCode::io : ExitCode::output_busy;
}

std::string read_file(const std::string& path, uint64_t limit, Links links) {
    const File file = File::open(path, links);
    const uint64_t bytes = file.size();
    if (bytes > limit) {
        throw Error(ExitCode::bad_data, path + " has " + std::to_string(bytes) +
                                            " bytes, expected at most " + std::to_string(limit));
    }
    std::string content(bytes, '\0');
    file.read_all(content.data(), content.size(), 0);
    return content;
}

std::string folder_of(const std::string& path) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

void replace_file(const std::string& path, const std::string& content) {
    const std::string fresh = path + kTemporaryMark + std::to_string(getpid());
    try {
        File file = File::create(fresh);
        file.write_all(content.data(), content.size());
        file.sync();
        file.close();
        rename_path(fresh, path);
    } catch (...) {
        remove_tree(fresh);
        throw;
    }
    sync_folder(folder_of(path));
}

void create_folders(const std::string& path) {
    std::vector<std::string> missing;
    std::error_code error;
    for (std::string at = path; !std::filesystem::exists(at, error); at = folder_of(at)) {
        missing.push_back(at);
        if (at == "." || folder_of(at) == at) break;
    }
    const auto fail = [&](const std::string& at, int code) {
        throw Error(output_error_code(code), "cannot create folder " + path + ": " + at + ": " +
                                                 reason_of(code) +
                                                 "; choose another output folder");
    };
    for (; !missing.empty(); missing.pop_back()) {
        const std::string& folder = missing.back();
        if (::mkdir(folder.c_str(), 0775) != 0 && errno != EEXIST) fail(folder, errno);
        // Otherwise a crash could take away the folder and all that was synced inside.
        const std::string parent = folder_of(folder);
        if (access(parent.c_str(), R_OK) == 0) sync_folder(parent);
    }
    if (!std::filesystem::is_directory(path, error)) fail(path, ENOTDIR);
}

void sync_folder(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail_io("open folder", path, errno);
    // Some network file systems do not know fsync of a folder (EINVAL); their rename is durable.
    const int error = fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno;
    const int close_error = ::close(descriptor) == 0 ? 0 : errno;
    if (error != 0) fail_io("sync folder", path, error);
    if (close_error != 0) fail_io("close folder", path, close_error);
}

void rename_path(const std::string& from, const std::string& to) {
    struct stat before {};
    const bool known = lstat(from.c_str(), &before) == 0;
    if (std::rename(from.c_str(), to.c_str()) == 0) return;
    const int error = errno;
    // A network file system may answer with an error although the rename happened.
    struct stat after {};
    if (known && lstat(to.c_str(), &after) == 0 && after.st_dev == before.st_dev &&
        after.st_ino == before.st_ino) {
        return;
    }
    fail_io("rename " + from + " to", to, error);
}

bool rename_to_free(const std::string& from, const std::string& to) {
    struct stat before {};
    if (lstat(from.c_str(), &before) != 0) fail_io("examine", from, errno);
    const auto cannot = [](int error) {
        return error == EINVAL || error == ENOSYS || error == ENOTSUP || error == EPERM;
    };
    int error = 0;
    if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
        error = errno;
    }
    // A second name never replaces another; where there are none, looking first must do.
    if (cannot(error)) error = ::link(from.c_str(), to.c_str()) == 0 ? 0 : errno;
    struct stat after {};
    const bool is_there = lstat(to.c_str(), &after) == 0;
    if (cannot(error) && !is_there) {
        rename_path(from, to);
        return true;
    }
    // A network file system may answer with an error although it was done.
    if (is_there && after.st_dev == before.st_dev && after.st_ino == before.st_ino) {
        if (::unlink(from.c_str()) != 0 && errno != ENOENT) fail_io("remove", from, errno);
        return true;
    }
    if (is_there) return false;
    fail_io("rename " + from + " to", to, error);
}

bool exchange_paths(const std::string& one, const std::string& other) {
    if (renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0) {
        return true;
    }
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
    fail_io("exchange " + one + " and", other, errno);
}

uint64_t free_bytes(const std::string& path) noexcept {
    struct statvfs disk {};
    if (statvfs(path.c_str(), &disk) != 0) return 0;
    return static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
}

bool remove_tree(const std::string& path) noexcept {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return !error;
}

}  // namespace trireme
