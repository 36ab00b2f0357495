#pragma once

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "core/file_io.h"
#include "core/safetensors.h"
#include "data/sample_source.h"
#include "model/engine.h"
#include "parallel/control_group.h"

namespace trireme {

// What of a dataset's logits goes to a file: of its first `windows` windows.
struct LogitsShape {
    int64_t windows = 0;
    int64_t sequence = 0;  // tokens of a window
    int64_t vocab_size = 0;

    // Throws Error (config) for a file of more than 16 GiB, with the number of windows that fit.
    void check() const;
};

// The target of a token that does not count, as torch's cross_entropy ignores it.
inline constexpr int64_t kIgnoredTarget = -100;

// A safetensors file of logits [windows, T, V] f32 with the tokens [windows, T] i64 that the model
// read and the targets [windows, T] i64 that it was to predict. Where documents are kept apart,
// document_begin [windows, T] i32 says for each token at which of its window its document begins.
// It is written beside its place and appears there whole, or never. Every rank that has logits
// writes them itself, so none holds more than the engine hands over at a time; all must see the
// same folder.
class LogitsFile {
public:
    // Collective. `shape` has been checked. Rank 0 makes the file in its full size and writes all
    // but the logits. Throws Error (output_busy) when something is at `path` already; Error (io)
    // when it cannot be written. `control` outlives the file.
    LogitsFile(ControlGroup& control, const std::string& path, const SampleSource& data,
               const LogitsShape& shape, bool keep_documents_apart);
    ~LogitsFile();  // removes what was not published
    LogitsFile(const LogitsFile&) = delete;
    LogitsFile& operator=(const LogitsFile&) = delete;

    // To be given to Engine::evaluate. After an error this rank writes no more.
    LogitRequest request();
    // Collective. When all logits have been taken: throws, on all ranks alike, the first error that
    // a rank met in writing them.
    void finish();
    // Collective. Finishes what has not been finished and lets the file appear. Throws Error
    // (output_busy) when something is there by now.
    void publish();

private:
    void make(const std::string& header, const std::vector<SafetensorsEntry>& entries,
              const SampleSource& data);
    void take(const LogitRows& logits);
    void write(const LogitRows& logits);

    ControlGroup& control_;
    const LogitsShape shape_;
    const std::string path_, temporary_;
    uint64_t logits_at_ = 0;  // byte of the file
    std::optional<File> file_;
    std::exception_ptr error_;  // the first in writing
    bool is_finished_ = false;
    bool is_published_ = false;
};

}  // namespace trireme
