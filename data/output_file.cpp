#include "data/output_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/file_io.h"

namespace trireme {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

[[noreturn]] void fail(ExitCode code, const std::string& what, int error) {
    throw Error(code, what + ": " + std::strerror(error));
}

// Truncates only after the lock is held: before, another writer may be using the file.
LockedFile open_at(const std::string& path, int64_t resume_at) {
    LockedFile file = LockedFile::create(path);
    struct stat status {};
    if (::fstat(file.descriptor(), &status) != 0) {
        fail(output_error_code(errno), "cannot create " + path, errno);
    }
    if (status.st_size < resume_at) {
        throw Error(ExitCode::bad_data, path + " has " + std::to_string(status.st_size) +
                                            " bytes, expected at least " +
                                            std::to_string(resume_at));
    }
    if (::ftruncate(file.descriptor(), resume_at) != 0 ||
        ::lseek(file.descriptor(), resume_at, SEEK_SET) < 0) {
        fail(output_error_code(errno), "cannot create " + path, errno);
    }
    return file;
}

}  // namespace

void remove_former(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        throw Error(ExitCode::output_busy, "cannot replace " + path + ": " + std::strerror(errno));
    }
}

OutputFile::OutputFile(const std::string& path, int64_t resume_at)
    : path_(path), partial_path_(path + ".partial"), keeps_(resume_at > 0) {
    create_folders(folder_of(path));
    buffer_.reserve(kBufferBytes);
    file_.emplace(open_at(partial_path_, resume_at));
}

OutputFile::~OutputFile() {
    if (file_ && !keeps_) ::unlink(partial_path_.c_str());
}

void OutputFile::write(const void* from, size_t bytes) {
    const char* data = static_cast<const char*>(from);
    while (bytes > 0) {
        const size_t n = std::min(bytes, kBufferBytes - buffer_.size());
        buffer_.insert(buffer_.end(), data, data + n);
        data += n;
        bytes -= n;
        if (buffer_.size() == kBufferBytes) flush();
    }
}

void OutputFile::flush() {
    size_t done = 0;
    while (done < buffer_.size()) {
        const ssize_t n =
            ::write(file_->descriptor(), buffer_.data() + done, buffer_.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(ExitCode::io, "writing " + partial_path_, errno);
        done += static_cast<size_t>(n);
    }
    buffer_.clear();
}

void OutputFile::sync() {
    flush();
    file_->sync();
}

void OutputFile::publish() {
    flush();
    file_->rename_to(path_);
    file_.reset();
}

}  // namespace trireme
