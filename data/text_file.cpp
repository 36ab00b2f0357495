#include "data/text_file.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/gzip_file.h"
#include "data/stored_file.h"
#include "data/zstd_file.h"

namespace trireme {
namespace {

bool is_gzip_name(const std::string& path) {
    return path.ends_with(".gz") || path.ends_with(".dz");
}

bool is_zstd_name(const std::string& path) {
    return path.ends_with(".zst");
}

// Whether it is gzip shows when it is read. zlib's gzread would tell, but pass over damage that
// GzipFile refuses.
class StandardInput final : public PackedFile {
public:
    StandardInput() : input_("-", Descriptor(::dup(STDIN_FILENO)), size_t{1} << 18) {}

    size_t read(char* to, size_t bytes) override {
        if (!is_begun_) begin();
        if (gzip_ != nullptr) return gzip_->read(to, bytes);
        size_t done = 0;
        while (done < bytes && (!input_.left().empty() || input_.fill())) {
            const auto part = input_.left().first(std::min(bytes - done, input_.left().size()));
            std::copy(part.begin(), part.end(), to + done);
            input_.skip(part.size());
            done += part.size();
        }
        return done;
    }

    int64_t stored_position() const override {
        return gzip_ != nullptr ? gzip_->stored_position() : input_.position();
    }

private:
    void begin() {
        is_begun_ = true;
        constexpr std::string_view kMark = "\x1f\x8b";
        while (input_.left().size() < kMark.size() && input_.fill()) {
        }
        const std::string_view found(input_.left().data(), input_.left().size());
        if (found.starts_with(kMark)) gzip_ = std::make_unique<GzipFile>(std::move(input_));
    }

    StoredFile input_;
    std::unique_ptr<GzipFile> gzip_;  // instead of input_
    bool is_begun_ = false;
};

}  // namespace

bool is_standard_input(const std::string& path) {
    return path == "-";
}

std::string uncompressed_name(const std::string& path) {
    const size_t ending = is_gzip_name(path) ? 3 : is_zstd_name(path) ? 4 : 0;
    return path.substr(0, path.size() - ending);
}

TextFile::TextFile(const std::string& path) : path_(path) {
    std::error_code error;
    if (is_standard_input(path)) {
        packed_ = std::make_unique<StandardInput>();
        return;
    }
    if (!std::filesystem::is_regular_file(path, error)) {
        const char* found = std::filesystem::exists(path, error) ? " is not a file" : " not found";
        throw Error(ExitCode::bad_data,
                    "input " + path + found + ", expected a text or JSONL file");
    }
    stored_size_ = static_cast<int64_t>(std::filesystem::file_size(path));
    if (is_zstd_name(path)) {
        packed_ = std::make_unique<ZstdFile>(path);
        return;
    }
    file_ = ::gzopen(path.c_str(), "rb");
    if (file_ == nullptr) {
        throw Error(ExitCode::io, "cannot open input " + path + ": " + std::strerror(errno));
    }
    ::gzbuffer(file_, 1u << 18);
    if (is_gzip_name(path) && ::gzdirect(file_) != 0) {
        ::gzclose(file_);
        throw Error(ExitCode::bad_data, "input " + path +
                                            " is named as compressed, but has no gzip header at "
                                            "byte 0; unpack it or fix its name");
    }
    if (::gzdirect(file_) == 0) {
        ::gzclose(file_);
        file_ = nullptr;
        packed_ = std::make_unique<GzipFile>(path);
    }
}

TextFile::~TextFile() {
    if (file_ != nullptr) ::gzclose(file_);
}

bool TextFile::is_plain() const {
    return file_ != nullptr && ::gzdirect(file_) != 0;
}

bool TextFile::seek(int64_t position) {
    if (!is_plain()) return false;
    if (::gzseek(file_, position, SEEK_SET) != position) {
        throw Error(ExitCode::io, "cannot go to byte " + std::to_string(position) + " of input " +
                                      path_ + ": " + std::strerror(errno));
    }
    return true;
}

size_t TextFile::read(char* to, size_t bytes) {
    if (packed_ != nullptr) return packed_->read(to, bytes);
    const auto n = static_cast<unsigned>(std::min<size_t>(bytes, size_t{1} << 30));
    const int got = ::gzread(file_, to, n);
    if (got > 0) return static_cast<size_t>(got);
    int code = Z_OK;
    const char* what = ::gzerror(file_, &code);
    if (code == Z_ERRNO) {
        throw Error(ExitCode::io, "reading input " + path_ + ": " + std::strerror(errno));
    }
    if (code != Z_OK && code != Z_STREAM_END) {
        throw Error(ExitCode::bad_data, "input " + path_ + " is damaged or cut off near byte " +
                                            std::to_string(stored_position()) + " of " +
                                            std::to_string(stored_size_) + ": " + what);
    }
    return 0;
}

int64_t TextFile::stored_position() const {
    if (packed_ != nullptr) return std::min(packed_->stored_position(), stored_size_);
    return std::clamp<int64_t>(::gzoffset(file_), 0, stored_size_);
}

int64_t text_size(const std::string& path) {
    TextFile file(path);
    // By its content, as it is read: gzip is unpacked under any name.
    if (file.is_plain()) return file.stored_size();
    std::vector<char> buffer(size_t{1} << 20);
    int64_t total = 0;
    while (const size_t n = file.read(buffer.data(), buffer.size())) {
        total += static_cast<int64_t>(n);
    }
    return total;
}

}  // namespace trireme
