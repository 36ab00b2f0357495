#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_file.h"

namespace trireme {

// One document as it stands in the input: a piece of plain text, or a line of JSON.
struct RawDocument {
    std::string bytes;
    std::string path;
    int64_t line = 0;       // from 1; 0 for plain text
    bool held_out = false;  // belongs to the validation part
    std::string problem;    // what is wrong with the line before it is even parsed
};

enum class TextFormat {
    by_name,  // JSON lines in .jsonl, .ndjson and .json, plain text elsewhere
    text,
    json_lines,
};

// Where a stream stands between two documents.
struct DocumentPosition {
    int64_t file = 0;       // index of the file that the next document may come from
    int64_t offset = 0;     // bytes of its text taken so far
    uint32_t checksum = 0;  // CRC-32C of those
    int64_t line = 0;       // its lines taken so far
    int64_t joined = 0;     // bytes of text taken over all files
    bool held_out = false;  // the validation part has begun
};

// Cuts a row of input files into documents, in order. In a file of JSON lines every line that is
// not blank is one, and one longer than kMaxLineBytes comes without its bytes and with a `problem`;
// plain text is cut at line ends into pieces of at most kMaxDocumentBytes. Texts of different files
// never share a document. Memory does not grow with the files.
class DocumentStream {
public:
    static constexpr int64_t kMaxDocumentBytes = int64_t{1} << 20;
    static constexpr size_t kMaxLineBytes = size_t{64} << 20;

    // Documents from byte `held_out_from` of all texts taken as one are held out; plain text is cut
    // there, at the line end before it.
    DocumentStream(std::vector<std::string> paths, int64_t held_out_from,
                   TextFormat format = TextFormat::by_name);

    // Goes on where another stream over the same files stood; only before the first next().
    // Error(bad_data) when a text that must be read again is not the one that was read.
    void resume(const DocumentPosition& position);

    // Behind the last document.
    DocumentPosition position() const;

    // The next document; false at the end of the last file. Errors as from TextFile.
    bool next(RawDocument& document);

    int64_t stored_position() const;  // bytes on disk read so far, over all files

private:
    void open_next();
    bool next_line(RawDocument& document);
    void drop_line(RawDocument& document);
    void skip(size_t n_bytes);
    bool next_piece(RawDocument& document);
    void take(size_t n_bytes, RawDocument& document);
    void fill(size_t n_bytes);
    std::string_view available() const { return std::string_view(buffer_).substr(begin_); }

    std::vector<std::string> paths_;
    int64_t held_out_from_;
    TextFormat format_;
    size_t n_opened_ = 0;
    std::unique_ptr<TextFile> file_;
    bool is_json_ = false;
    bool at_end_ = false;  // of the open file; what is left of it is in the buffer
    bool held_out_ = false;
    int64_t line_ = 0;
    int64_t offset_ = 0;  // bytes taken of the open file's text
    uint32_t checksum_ = 0;
    int64_t position_ = 0;  // bytes of text taken so far, over all files
    int64_t stored_in_closed_ = 0;
    std::string buffer_;
    size_t begin_ = 0;
};

}  // namespace trireme
