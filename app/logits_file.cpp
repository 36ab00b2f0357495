#include "app/logits_file.h"

#include <algorithm>
#include <vector>

#include "app/output_name.h"
#include "app/readable.h"
#include "core/error.h"
#include "core/random_id.h"
#include "core/safetensors.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace {

constexpr double kMostBytes = 16.0 * 1024 * 1024 * 1024;

constexpr const char* kOption = "--logits";

// Larger elements first keeps all of them aligned.
std::vector<SafetensorsEntry> entries_of(const LogitsShape& shape) {
    const auto entry = [](const char* name, DType dtype, std::vector<int64_t> sizes) {
        SafetensorsEntry made;
        made.name = name;
        made.dtype = dtype;
        made.shape = std::move(sizes);
        return made;
    };
    return {entry("tokens", DType::i64, {shape.windows, shape.sequence}),
            entry("targets", DType::i64, {shape.windows, shape.sequence}),
            entry("logits", DType::f32, {shape.windows, shape.sequence, shape.vocab_size})};
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
                       const LogitsShape& shape)
    : control_(control),
      data_(data),
      shape_(shape),
      path_(path),
      temporary_(path + kTemporaryMark + control.broadcast(random_id())) {
    shape.check();
    std::vector<SafetensorsEntry> entries = entries_of(shape_);
    const uint64_t header = make_safetensors_header(entries, {}).size();
    logits_at_ = header + entries.back().begin;
    control.run(
        "while making a file of logits",
        [&] {
            if (control.rank() == 0) make();
        },
        [&] { remove_tree(temporary_); });
}

LogitsFile::~LogitsFile() {
    if (!is_published_) remove_tree(temporary_);
}

void LogitsFile::make() {
    check_output_free(path_, kOption);
    create_folders(folder_of(path_));
    File file = File::create(temporary_, true);
    std::vector<SafetensorsEntry> entries = entries_of(shape_);
    const std::string header = make_safetensors_header(entries, {});
    file.write_all(header.data(), header.size());
    const auto length = static_cast<size_t>(shape_.sequence);
    std::vector<int32_t> tokens(length), labels(length);
    for (const bool is_targets : {false, true}) {
        for (int64_t window = 0; window < shape_.windows; ++window) {
            data_.read(window, tokens, labels);
            std::vector<int64_t> values(length);
            std::transform(tokens.begin(), tokens.end(), labels.begin(), values.begin(),
                           [&](int32_t token, int32_t label) {
                               if (!is_targets) return int64_t{token};
                               return label < 0 ? kIgnoredTarget : int64_t{label};
                           });
            file.write_all(values.data(), values.size() * sizeof(int64_t));
        }
    }
    file.close();
}

LogitRequest LogitsFile::request() {
    return {shape_.windows, [this](const LogitRows& logits) { write(logits); }};
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

void LogitsFile::publish() {
    const auto clean_up = [&] { remove_tree(temporary_); };
    const char* what = "while writing logits";
    control_.run(
        what,
        [&] {
            if (!file_) return;
            file_->sync();
            file_->close();
        },
        clean_up);
    control_.run(
        what,
        [&] {
            if (control_.rank() != 0) return;
            check_output_free(path_, kOption);
            rename_path(temporary_, path_);
            sync_folder(folder_of(path_));
        },
        clean_up);
    is_published_ = true;
}

}  // namespace trireme
