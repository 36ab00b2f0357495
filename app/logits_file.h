#pragma once

#include <optional>
#include <string>

#include "core/file_io.h"
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
// read and the targets [windows, T] i64 that it was to predict. It is written beside its place and
// appears there whole, or never. Every rank that has logits writes them itself, so none holds more
// than the engine hands over at a time; all must see the same folder.
class LogitsFile {
public:
    // Collective. Rank 0 makes the file and writes all but the logits. Throws Error (output_busy)
    // when something is at `path` already; Error (io) when it cannot be written. `control` and
    // `data` outlive the file.
    LogitsFile(ControlGroup& control, const std::string& path, const SampleSource& data,
               const LogitsShape& shape);
    ~LogitsFile();  // removes what was not published
    LogitsFile(const LogitsFile&) = delete;
    LogitsFile& operator=(const LogitsFile&) = delete;

    // To be given to Engine::evaluate.
    LogitRequest request();
    // Collective. When all logits have been taken.
    void publish();

private:
    void make();
    void write(const LogitRows& logits);

    ControlGroup& control_;
    const SampleSource& data_;
    const LogitsShape shape_;
    const std::string path_, temporary_;
    uint64_t logits_at_ = 0;  // byte of the file
    std::optional<File> file_;
    bool is_published_ = false;
};

}  // namespace trireme
