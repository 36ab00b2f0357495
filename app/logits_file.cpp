#include "app/logits_file.h"

#include <algorithm>

#include "app/output_name.h"
#include "app/readable.h"
#include "core/error.h"
#include "core/random_id.h"
#include "data/document_borders.h"

namespace trireme {

namespace {

constexpr double kMostBytes = 16.0 * 1024 * 1024 * 1024;

constexpr const char* kWhat = "while writing logits";
constexpr const char* kOption = "--logits";

// Larger elements first keeps all of them aligned.
std::vector<SafetensorsEntry> entries_of(const LogitsShape& shape, bool has_documents) {
    std::vector<SafetensorsEntry> entries;
    const auto add = [&](const char* name, DType dtype, std::vector<int64_t> sizes) {
        SafetensorsEntry& entry = entries.emplace_back();
        entry.name = name;
        entry.dtype = dtype;
        entry.shape = std::move(sizes);
    };
    add("tokens", DType::i64, {shape.windows, shape.sequence});
    add("targets", DType::i64, {shape.windows, shape.sequence});
    if (has_documents) add("document_begin", DType::i32, {shape.windows, shape.sequence});
    add("logits", DType::f32, {shape.windows, shape.sequence, shape.vocab_size});
    return entries;
}

}  // namespace

void LogitsShape::check() const {
    const double window = 4.0 * static_cast<double>(sequence) * static_cast<double>(vocab_size);
    const double bytes = window * static_cast<double>(windows);
    if (bytes <= kMostBytes) return;
    const auto fit = static_cast<int64_t>(kMostBytes / window);
    throw Error(ExitCode::config,
                "--logits-windows " + std::to_string(windows) +
                    ": the logits of as many windows of " + std::to_string(sequence) +
                    " tokens for " + std::to_string(vocab_size) + " ids are " +
                    readable_bytes(static_cast<uint64_t>(bytes)) + ", expected at most " +
                    readable_bytes(static_cast<uint64_t>(kMostBytes)) + "; " +
                    (fit > 0 ? "ask for " + std::to_string(fit) + " windows"
                             : "set a smaller data.sequence_length"));
}

LogitsFile::LogitsFile(ControlGroup& control, const std::string& path, const SampleSource& data,
                       const LogitsShape& shape, bool keep_documents_apart)
    : control_(control),
      shape_(shape),
      path_(path),
      temporary_(path + kTemporaryMark + control.broadcast(random_id())) {
    std::vector<SafetensorsEntry> entries = entries_of(shape, keep_documents_apart);
    const std::string header = make_safetensors_header(entries, {});
    for (SafetensorsEntry& entry : entries) {
        entry.begin += header.size();
        entry.end += header.size();
    }
    logits_at_ = entries.back().begin;
    control.run(
        "while making a file of logits",
        [&] {
            if (control.rank() == 0) make(header, entries, data);
        },
        [&] { remove_tree(temporary_); });
}

LogitsFile::~LogitsFile() {
    if (!is_published_) remove_tree(temporary_);
}

void LogitsFile::make(const std::string& header, const std::vector<SafetensorsEntry>& entries,
                      const SampleSource& data) {
    check_output_free(path_, kOption);
    create_folders(folder_of(path_));
    File file = File::create_new(temporary_);
    // Before anybody writes: ranks on other machines write far behind each other, and where a
    // network file system's client thinks that the file ends, it fills its page up with zeros.
    file.reserve(entries.back().end);
    file.write_all_at(header.data(), header.size(), 0);
    const bool has_documents = entries.size() > 3;
    const auto length = static_cast<size_t>(shape_.sequence);
    std::vector<int32_t> tokens(length), labels(length), begins(length), room(length);
    std::vector<int64_t> ids(length), targets(length);
    for (int64_t window = 0; window < shape_.windows; ++window) {
        data.read(window, tokens, labels);
        if (has_documents) separate_documents(data, window, labels, begins, room);
        std::copy(tokens.begin(), tokens.end(), ids.begin());
        std::transform(labels.begin(), labels.end(), targets.begin(),
                       [](int32_t label) { return label < 0 ? kIgnoredTarget : int64_t{label}; });
        const auto put = [&](size_t entry, const auto& values) {
            const size_t bytes = length * sizeof(values[0]);
            file.write_all_at(values.data(), bytes,
                              entries[entry].begin + static_cast<uint64_t>(window) * bytes);
        };
        put(0, ids);
        put(1, targets);
        if (has_documents) put(2, begins);
    }
    file.sync();
    file.close();
}

LogitRequest LogitsFile::request() {
    return {shape_.windows, [this](const LogitRows& logits) { take(logits); }};
}

void LogitsFile::take(const LogitRows& logits) {
    if (error_) return;
    try {
        write(logits);
    } catch (...) {
        error_ = std::current_exception();
    }
}

void LogitsFile::write(const LogitRows& logits) {
    if (!file_) file_.emplace(File::change(temporary_));
    for (int64_t row = 0; row < logits.rows; ++row) {
        const int64_t place = (logits.first_row + row) * shape_.vocab_size + logits.first_column;
        file_->write_all_at(logits.values.data() + row * logits.stride,
                            static_cast<size_t>(logits.columns) * sizeof(float),
                            logits_at_ + static_cast<uint64_t>(place) * sizeof(float));
    }
}

void LogitsFile::finish() {
    control_.run(
        kWhat,
        [&] {
            if (error_) std::rethrow_exception(error_);
            if (!file_) return;
            file_->sync();
            file_->close();
        },
        [&] { remove_tree(temporary_); });
    is_finished_ = true;
}

void LogitsFile::publish() {
    if (!is_finished_) finish();
    control_.run(
        kWhat,
        [&] {
            if (control_.rank() != 0) return;
            if (!rename_to_free(temporary_, path_)) fail_output_taken(path_, kOption);
            sync_folder(folder_of(path_));
        },
        [&] { remove_tree(temporary_); });
    is_published_ = true;
}

}  // namespace trireme
