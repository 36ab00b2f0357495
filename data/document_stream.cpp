#include "data/document_stream.h"

#include <algorithm>
#include <utility>

namespace trireme {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

bool is_json_name(std::string name) {
    if (name.ends_with(".gz") || name.ends_with(".dz")) name.resize(name.size() - 3);
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

DocumentStream::DocumentStream(std::vector<std::string> paths, int64_t held_out_from)
    : paths_(std::move(paths)), held_out_from_(held_out_from) {}

bool DocumentStream::next(RawDocument& document) {
    for (;;) {
        if (file_ == nullptr) {
            if (n_opened_ == paths_.size()) return false;
            file_ = std::make_unique<TextFile>(paths_[n_opened_]);
            is_json_ = is_json_name(paths_[n_opened_]);
            ++n_opened_;
            at_end_ = false;
            line_ = 0;
        }
        document.path = file_->path();
        if (is_json_ ? next_line(document) : next_piece(document)) return true;
        stored_in_closed_ += file_->stored_size();
        file_.reset();
    }
}

bool DocumentStream::next_line(RawDocument& document) {
    for (;;) {
        size_t scanned = 0;
        size_t line_end = available().find('\n');
        while (line_end == std::string_view::npos && !at_end_) {
            scanned = available().size();
            fill(scanned + kReadBytes);
            line_end = available().find('\n', scanned);
        }
        if (available().empty()) return false;
        held_out_ = held_out_ || position_ >= held_out_from_;
        document.line = ++line_;
        take(line_end == std::string_view::npos ? available().size() : line_end + 1, document);
        if (document.bytes.find_first_not_of(" \t\r\n") != std::string::npos) return true;
    }
}

bool DocumentStream::next_piece(RawDocument& document) {
    held_out_ = held_out_ || position_ >= held_out_from_;
    const int64_t to_held_out = held_out_ ? kMaxDocumentBytes : held_out_from_ - position_;
    const auto limit = static_cast<size_t>(std::min(kMaxDocumentBytes, to_held_out));
    fill(limit + 1);
    if (available().empty()) return false;
    document.line = 0;
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
    begin_ += n_bytes;
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
