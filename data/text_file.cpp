#include "data/text_file.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/gzip_file.h"
#include "data/zstd_file.h"

namespace trireme {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 18;
constexpr std::string_view kGzipMark = "\x1f\x8b";

bool is_gzip_name(const std::string& path) {
    return path.ends_with(".gz") || path.ends_with(".dz");
}

bool is_zstd_name(const std::string& path) {
    return path.ends_with(".zst");
}

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
        // Looked at only when it is read: what is taken from a pipe is gone.
        plain_.emplace(path, Descriptor(::dup(STDIN_FILENO)), kBufferBytes);
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
        is_told_ = true;
        return;
    }
    plain_.emplace(path, kBufferBytes);
    tell_gzip();
    if (is_gzip_name(path) && is_plain()) {
        throw Error(ExitCode::bad_data, "input " + path +
                                            " is named as compressed, but has no gzip header at "
                                            "byte 0; unpack it or fix its name");
    }
}

void TextFile::tell_gzip() {
    is_told_ = true;
    while (plain_->left().size() < kGzipMark.size() && plain_->fill()) {
    }
    const std::string_view found(plain_->left().data(), plain_->left().size());
    if (!found.starts_with(kGzipMark)) return;
    packed_ = std::make_unique<GzipFile>(std::move(*plain_));
    plain_.reset();
}

bool TextFile::is_plain() const {
    return packed_ == nullptr && !is_standard_input(path_);
}

bool TextFile::seek(int64_t position) {
    if (!is_plain()) return false;
    plain_->seek(position);
    return true;
}

size_t TextFile::read(char* to, size_t bytes) {
    if (!is_told_) tell_gzip();
    return packed_ != nullptr ? packed_->read(to, bytes) : plain_->read(to, bytes);
}

int64_t TextFile::stored_position() const {
    const int64_t position = packed_ != nullptr ? packed_->stored_position() : plain_->position();
    return std::min(position, stored_size_);
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
