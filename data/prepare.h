#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/document_stream.h"

namespace trireme {

enum class BadLine { fail, skip };

struct PrepareOptions {
    // Text or JSON lines, each also .gz, .dz (dictzip) or .zst; patterns such as "in/*.jsonl"; "-"
    // for the standard input.
    std::vector<std::string> inputs = {};
    std::string output = {};  // prefix
    std::string tokenizer = "byte";
    TextFormat format = TextFormat::by_name;
    std::string text_key = "text";   // of a JSON line
    double valid_fraction = 0.0;     // of the text, taken from its end; [0, 1)
    int workers = 1;                 // tokenizing threads; the files do not depend on it
    bool append_end_of_text = true;  // after every document
    BadLine on_bad_line = BadLine::fail;
    int64_t checkpoint_bytes = int64_t{256} << 20;  // of text between two states to go on from
    // Called from the calling thread after each batch of documents: input bytes on disk, text bytes
    // and the text bytes that an interrupted run had done. total is 0 with the standard input.
    struct Progress {
        int64_t done, total, text_bytes, resumed_bytes;
    };
    std::function<void(const Progress&)> progress = {};
    // Called from the calling thread while the files of a run that was killed at its very end are
    // read once more, with bytes.
    std::function<void(int64_t done, int64_t total)> on_check = {};
    // Called from the calling thread with what is wrong with a line that is skipped, in order.
    std::function<void(const std::string&)> on_skipped = {};
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
    int64_t skipped_lines = 0;
    int64_t resumed_bytes = 0;  // of text that an interrupted run had done
};

// Turns text into PREFIX.bin and PREFIX.idx or, with a validation part, PREFIX-train and
// PREFIX-valid, in Megatron's format, each with a PREFIX.json (DatasetManifest). Plain text is cut
// at line ends into documents of at most 1 MiB; a JSON line is one document, and one with empty
// text is left out. Memory is bounded by the number of workers and the longest line, not by the
// input. A former dataset of that name is replaced only when the new one is whole.
//
// A run that was killed, or that the disk refused (Error(io)), leaves OUTPUT.partial and
// PREFIX.*.partial; the same call goes on from there and gives the same files. So does one whose
// files are whole but do not all get their names: some of them then have theirs. Inputs count as
// the same by path, size and time of change; the standard input must be sent again. On any other
// error no new file is left.
//
// Error(bad_data) naming file and line: missing or empty input, damaged compression, a line that
// is not a JSON object with a string under text_key (unless lines are skipped). Error(config):
// impossible option. Error(output_busy): the output would overwrite an input or the tokenizer's
// file. Error(output_busy) and Error(io): it cannot be created or written.
PrepareResult prepare(const PrepareOptions& options);

}  // namespace trireme
