#include "data/document_stream.h"

#include <algorithm>
#include <utility>

#include "core/crc32c.h"
#include "core/error.h"

namespace trireme {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

bool is_json_name(const std::string& path) {
    const std::string name = uncompressed_name(path);
    return name.ends_with(".jsonl") || name.ends_with(".ndjson") || name.ends_with(".json");
}

bool continues_character(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u;
}

// Where to cut text of more than `limit` bytes: after the last line end if one stands in the
// second half, else not inside a character.
size_t cut_position(std::string_view text, size_t limit) {
    const size_t line_end = text.substr(0, limit).rfind('\n');
    if (line_end != std::string_view::npos && line_end + 1 > limit / 2) return line_end + 1;
    size_t n = limit;
    while (n > 1 && limit - n < 3 && continues_character(text[n])) --n;
    return continues_character(text[n]) ? limit : n;
}

}  // namespace

DocumentStream::DocumentStream(std::vector<std::string> paths, int64_t held_out_from,
                               TextFormat format)
    : paths_(std::move(paths)), held_out_from_(held_out_from), format_(format) {}

void DocumentStream::open_next() {
    const std::string& path = paths_[n_opened_++];
    file_ = std::make_unique<TextFile>(path);
    is_json_ =
        format_ == TextFormat::by_name ? is_json_name(path) : format_ == TextFormat::json_lines;
    at_end_ = false;
    line_ = 0;
    offset_ = 0;
    checksum_ = 0;
}

DocumentPosition DocumentStream::position() const {
    const auto n_opened = static_cast<int64_t>(n_opened_);
    if (file_ == nullptr) return {n_opened, 0, 0, 0, position_, held_out_};
    return {n_opened - 1, offset_, checksum_, line_, position_, held_out_};
}

void DocumentStream::resume(const DocumentPosition& position) {
    TRIREME_CHECK(n_opened_ == 0 && position.file <= static_cast<int64_t>(paths_.size()),
                  "a new stream and one of its files");
    for (; n_opened_ < static_cast<size_t>(position.file); ++n_opened_) {
        stored_in_closed_ += TextFile(paths_[n_opened_]).stored_size();
    }
    position_ = position.joined;
    held_out_ = position.held_out;
    if (position.offset == 0) return;
    open_next();
    if (!file_->seek(position.offset)) {
        std::vector<char> buffer(kReadBytes);
        uint32_t checksum = 0;
        for (int64_t left = position.offset; left > 0;) {
            const auto most = std::min(left, static_cast<int64_t>(buffer.size()));
            const size_t n = file_->read(buffer.data(), static_cast<size_t>(most));
            checksum = crc32c(buffer.data(), n, checksum);
            left -= static_cast<int64_t>(n);
            if (n == 0 || (left == 0 && checksum != position.checksum)) {
                throw Error(ExitCode::bad_data,
                            "input " + file_->path() +
                                " is not what the interrupted run read; remove the .partial files "
                                "to start anew");
            }
        }
    }
    offset_ = position.offset;
    checksum_ = position.checksum;
    line_ = position.line;
}

bool DocumentStream::next(RawDocument& document) {
    for (;;) {
        if (file_ == nullptr) {
            if (n_opened_ == paths_.size()) return false;
            open_next();
        }
        const std::string& path = file_->path();
        document.path = is_standard_input(path) ? "standard input" : path;
        if (is_json_ ? next_line(document) : next_piece(document)) return true;
        stored_in_closed_ += file_->stored_size();
        file_.reset();
    }
}

bool DocumentStream::next_line(RawDocument& document) {
    for (;;) {
        size_t scanned = 0;
        size_t line_end = available().find('\n');
        document.problem.clear();
        while (line_end == std::string_view::npos && !at_end_ &&
               available().size() <= kMaxLineBytes) {
            scanned = available().size();
            fill(scanned + kReadBytes);
            line_end = available().find('\n', scanned);
        }
        if (std::min(line_end, available().size()) > kMaxLineBytes) {
            drop_line(document);
            return true;
        }
        if (available().empty()) return false;
        held_out_ = held_out_ || position_ >= held_out_from_;
        document.line = ++line_;
        take(line_end == std::string_view::npos ? available().size() : line_end + 1, document);
        if (document.bytes.find_first_not_of(" \t\r\n") != std::string::npos) return true;
    }
}

void DocumentStream::drop_line(RawDocument& document) {
    held_out_ = held_out_ || position_ >= held_out_from_;
    document.line = ++line_;
    document.bytes.clear();
    document.held_out = held_out_;
    document.problem = "longer than " + std::to_string(kMaxLineBytes >> 20) + " MiB";
    for (;;) {
        const size_t line_end = available().find('\n');
        skip(line_end == std::string_view::npos ? available().size() : line_end + 1);
        if (line_end != std::string_view::npos || at_end_) return;
        fill(kReadBytes);
    }
}

bool DocumentStream::next_piece(RawDocument& document) {
    held_out_ = held_out_ || position_ >= held_out_from_;
    const int64_t to_held_out = held_out_ ? kMaxDocumentBytes : held_out_from_ - position_;
    const auto limit = static_cast<size_t>(std::min(kMaxDocumentBytes, to_held_out));
    fill(limit + 1);
    if (available().empty()) return false;
    document.line = 0;
    document.problem.clear();
    if (available().size() <= limit) {
        take(available().size(), document);
    } else {
        take(cut_position(available(), limit), document);
        // Cut for the sake of the held-out part: it begins here, a little early.
        if (to_held_out <= kMaxDocumentBytes && !document.held_out) held_out_ = true;
    }
    return true;
}

void DocumentStream::take(size_t n_bytes, RawDocument& document) {
    document.bytes.assign(available().substr(0, n_bytes));
    document.held_out = held_out_;
    skip(n_bytes);
}

void DocumentStream::skip(size_t n_bytes) {
    checksum_ = crc32c(buffer_.data() + begin_, n_bytes, checksum_);
    begin_ += n_bytes;
    offset_ += static_cast<int64_t>(n_bytes);
    position_ += static_cast<int64_t>(n_bytes);
}

void DocumentStream::fill(size_t n_bytes) {
    if (available().size() >= n_bytes || at_end_) return;
    buffer_.erase(0, begin_);
    begin_ = 0;
    while (buffer_.size() < n_bytes && !at_end_) {
        const size_t old_size = buffer_.size();
        buffer_.resize(old_size + kReadBytes);
        const size_t n = file_->read(buffer_.data() + old_size, kReadBytes);
        buffer_.resize(old_size + n);
        at_end_ = n == 0;
    }
}

int64_t DocumentStream::stored_position() const {
    return stored_in_closed_ + (file_ != nullptr ? file_->stored_position() : 0);
}

}  // namespace trireme
