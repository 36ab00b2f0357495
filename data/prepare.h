#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace trireme {

struct PrepareOptions {
    std::vector<std::string> inputs = {};  // text, .jsonl, each also .gz or .dz (dictzip)
    std::string output = {};               // prefix
    std::string tokenizer = "byte";
    std::string text_key = "text";   // of a JSON line
    double valid_fraction = 0.0;     // of the text, taken from its end; [0, 1)
    int workers = 1;                 // tokenizing threads; the files do not depend on it
    bool append_end_of_text = true;  // after every document
    // Called from the calling thread after each batch of documents, with input bytes on disk.
    std::function<void(int64_t done, int64_t total)> progress = {};
};

struct PrepareCounts {
    int64_t documents = 0;
    int64_t tokens = 0;
    int64_t bytes = 0;  // of text
};

struct PrepareResult {
    PrepareCounts train;
    PrepareCounts valid;
    std::vector<std::string> prefixes;  // of the datasets written, train before valid
};

// Turns text into PREFIX.bin and PREFIX.idx or, with a validation part, PREFIX-train and
// PREFIX-valid, in Megatron's format. Plain text is cut at line ends into documents of at most
// 1 MiB; a JSON line is one document, and one with empty text is left out. A former dataset of
// that name is replaced only when the new one is whole; on any error no new file is left.
// Error(bad_data) naming file and line: missing or empty input, damaged compression, a line that
// is not a JSON object with a string under text_key. Error(config): impossible option.
// Error(output_busy) and Error(io): the output cannot be created or written.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace trireme
