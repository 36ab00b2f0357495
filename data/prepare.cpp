#include "data/prepare.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "data/dataset_manifest.h"
#include "data/document_stream.h"
#include "data/document_text.h"
#include "data/encode_pipeline.h"
#include "data/finished_datasets.h"
#include "data/indexed_dataset_writer.h"
#include "data/input_list.h"
#include "data/locked_file.h"
#include "data/prepare_progress.h"
#include "data/prepare_targets.h"
#include "data/resumable_dataset_writer.h"
#include "data/text_file.h"
#include "data/tokenizer.h"

namespace trireme {
namespace {

void check_options(const PrepareOptions& options, const std::vector<std::string>& inputs) {
    if (inputs.empty()) {
        throw Error(ExitCode::config, "no input file given, expected at least one");
    }
    if (options.output.empty() || options.output.ends_with('/')) {
        throw Error(ExitCode::config, "output '" + options.output +
                                          "' is no file prefix, expected for example data/corpus");
    }
    if (!(options.valid_fraction >= 0.0 && options.valid_fraction < 1.0)) {
        throw Error(ExitCode::config, "valid fraction " + std::to_string(options.valid_fraction) +
                                          ", expected a number from 0 to below 1");
    }
    if (options.workers < 1) {
        throw Error(ExitCode::config,
                    std::to_string(options.workers) + " workers, expected at least 1");
    }
    for (const std::string& path : inputs) {
        if (options.valid_fraction > 0.0 && is_standard_input(path)) {
            throw Error(ExitCode::config,
                        "valid fraction " + std::to_string(options.valid_fraction) +
                            " with the standard input, whose size is not known; send it to a file");
        }
    }
}

// Byte of the joined texts at which the validation part begins.
int64_t held_out_from(const PrepareOptions& options, const std::vector<std::string>& inputs) {
    if (options.valid_fraction == 0.0) return std::numeric_limits<int64_t>::max();
    int64_t total = 0;
    for (const std::string& path : inputs) total += text_size(path);
    return total - std::llround(options.valid_fraction * static_cast<double>(total));
}

// Everything that the output depends on, except the contents of the inputs.
std::string fingerprint_of(const PrepareOptions& options, const std::vector<std::string>& inputs,
                           const Tokenizer& tokenizer) {
    nlohmann::json all = {tokenizer.fingerprint(),    static_cast<int>(options.format),
                          options.text_key,           options.valid_fraction,
                          options.append_end_of_text, static_cast<int>(options.on_bad_line)};
    for (const std::string& path : inputs) {
        struct stat status {};
        if (!is_standard_input(path)) ::stat(path.c_str(), &status);
        all.push_back({path, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec});
    }
    return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// One part of the output. Files appear with its first document, so that bad input touches nothing.
class Part {
public:
    Part(std::string prefix, TokenType type) : prefix_(std::move(prefix)), type_(type) {}

    const std::string& prefix() const { return prefix_; }
    const PrepareCounts& counts() const { return counts_; }
    bool has_files() const { return writer_ != nullptr; }

    void resume(const PrepareProgress::PartState& state) {
        counts_ = state.counts;
        if (!state.has_files) return;
        writer_ = std::make_unique<ResumableDatasetWriter>(prefix_, type_, state.writer);
    }
    void open() { writer_ = std::make_unique<ResumableDatasetWriter>(prefix_, type_); }
    void add(const EncodedDocument& document) {
        writer_->add_document(document.ids);
        ++counts_.documents;
        counts_.tokens += static_cast<int64_t>(document.ids.size());
        counts_.bytes += document.text_bytes;
    }
    PrepareProgress::PartState checkpoint() {
        if (writer_ == nullptr) return {{}, counts_, false};
        return {writer_->checkpoint(), counts_, true};
    }
    void keep() {
        if (writer_ != nullptr) writer_->keep();
    }
    void finish(DatasetManifest& manifest) {
        manifest.text_bytes = counts_.bytes;
        writer_->finish(manifest);
    }
    void publish(const DatasetManifest& manifest) { writer_->publish(manifest); }

private:
    std::string prefix_;
    TokenType type_;
    std::unique_ptr<ResumableDatasetWriter> writer_;
    PrepareCounts counts_;
};

class Preparation {
public:
    Preparation(const PrepareOptions& options, std::vector<std::string> inputs)
        : options_(options),
          inputs_(std::move(inputs)),
          tokenizer_(make_tokenizer(options.tokenizer)),
          token_type_(token_type_for(tokenizer_->vocab_size())) {
        const bool split = options.valid_fraction > 0.0;
        parts_.emplace_back(options.output + (split ? "-train" : ""), token_type_);
        if (split) parts_.emplace_back(options.output + "-valid", token_type_);
        check_inputs_are_kept(options.output, prefixes(), inputs_, options.tokenizer);
    }

    PrepareResult run() {
        try {
            return run_all();
        } catch (const Error& error) {
            abandon(is_finished_ || (error.code() == ExitCode::io && has_checkpoint_));
            throw;
        } catch (...) {
            abandon(is_finished_);
            throw;
        }
    }

private:
    PrepareResult run_all() {
        int64_t total = 0;
        bool total_is_known = true;
        for (const std::string& path : inputs_) {
            total += TextFile(path).stored_size();
            total_is_known = total_is_known && !is_standard_input(path);
        }
        fingerprint_ = fingerprint_of(options_, inputs_, *tokenizer_);
        if (const auto former = finish_former()) return *former;
        DocumentStream stream(inputs_, held_out_from(options_, inputs_), options_.format);
        // Before resume() holds any file, since too many workers are no reason to lose a
        // checkpoint.
        EncodePipeline pipeline(
            stream,
            [this](const RawDocument& raw, EncodedDocument& encoded) { encode(raw, encoded); },
            options_.workers);
        resume(stream);
        while (const DocumentBatch* batch = pipeline.next()) {
            write(*batch);
            if (batch->read_error) std::rethrow_exception(batch->read_error);
            if (text_bytes() - checkpoint_at_ >= options_.checkpoint_bytes) {
                save(batch->after);
            }
            if (options_.progress) {
                options_.progress({batch->stored_position, total_is_known ? total : 0, text_bytes(),
                                   resumed_bytes_});
            }
        }
        return finish();
    }

    int64_t text_bytes() const {
        int64_t bytes = 0;
        for (const Part& part : parts_) bytes += part.counts().bytes;
        return bytes;
    }

    void resume(DocumentStream& stream) {
        const std::optional<PrepareProgress> progress =
            read_progress(options_.output, fingerprint_, prefixes(), token_type_);
        if (!progress) return;
        if (progress->position.file > static_cast<int64_t>(inputs_.size())) return;
        // What this refuses is no reason to lose the checkpoint: no part holds a file yet.
        stream.resume(progress->position);
        has_checkpoint_ = true;
        for (size_t i = 0; i < parts_.size(); ++i) parts_[i].resume(progress->parts[i]);
        skipped_lines_ = progress->skipped_lines;
        resumed_bytes_ = checkpoint_at_ = text_bytes();
    }

    void save(const DocumentPosition& position) {
        PrepareProgress progress{fingerprint_, position, skipped_lines_, {}};
        for (Part& part : parts_) progress.parts.push_back(part.checkpoint());
        write_progress(options_.output, progress);
        has_checkpoint_ = true;
        checkpoint_at_ = text_bytes();
    }

    // Of its own files only: without any, another process may be writing them.
    void abandon(bool resumable) {
        bool has_files = false;
        for (Part& part : parts_) {
            has_files = has_files || part.has_files();
            if (resumable) part.keep();
        }
        if (has_files && !resumable) ::unlink(progress_path(options_.output).c_str());
    }

    // Keeps what it throws: the first error in input order is reported, not the first in time.
    void encode(const RawDocument& raw, EncodedDocument& encoded) const {
        encoded.ids.clear();
        encoded.text_bytes = 0;
        encoded.error = nullptr;
        try {
            std::string unescaped;
            std::string_view text = raw.bytes;
            if (raw.line > 0) text = unescaped = text_of_json_line(raw, options_.text_key);
            encoded.text_bytes = static_cast<int64_t>(text.size());
            if (text.empty()) return;
            tokenizer_->encode(text, encoded.ids);
            if (options_.append_end_of_text) encoded.ids.push_back(tokenizer_->end_of_text());
        } catch (...) {
            encoded.error = std::current_exception();
        }
    }

    void write(const DocumentBatch& batch) {
        for (size_t i = 0; i < batch.n; ++i) {
            if (batch.encoded[i].error) {
                skip_or_throw(batch.encoded[i].error);
            } else if (!batch.encoded[i].ids.empty()) {
                Part& part = parts_[batch.raw[i].held_out ? 1 : 0];
                if (!part.has_files()) open(part);
                part.add(batch.encoded[i]);
            }
        }
    }

    // What an older run noted of the files that are now begun anew is no longer true of them.
    // While another run gives those their names, they are not to be begun anew.
    void open(Part& part) {
        const std::optional<LockedFile> note = LockedFile::find(progress_path(options_.output));
        part.open();
        if (!has_checkpoint_) remove_progress(options_.output);
    }

    void skip_or_throw(const std::exception_ptr& error) {
        try {
            std::rethrow_exception(error);
        } catch (const Error& problem) {
            if (options_.on_bad_line == BadLine::fail || problem.code() != ExitCode::bad_data) {
                throw;
            }
            ++skipped_lines_;
            if (options_.on_skipped) options_.on_skipped(problem.what());
        }
    }

    void check_parts() const {
        int64_t n_documents = 0;
        for (const Part& part : parts_) n_documents += part.counts().documents;
        if (n_documents == 0) {
            const char* others = inputs_.size() > 1 ? " and the others hold" : " holds";
            throw Error(ExitCode::bad_data,
                        "input " + inputs_[0] + others + " no text: the corpus would be empty");
        }
        for (const Part& part : parts_) {
            if (part.counts().documents == 0) {
                throw Error(ExitCode::bad_data,
                            part.prefix() +
                                " would be empty: the input has too little text to "
                                "hold out a fraction of " +
                                std::to_string(options_.valid_fraction) +
                                "; give more documents or another fraction");
            }
        }
    }

    PrepareResult finish() {
        check_parts();
        FinishedDatasets finished{fingerprint_, {}};
        for (Part& part : parts_) {
            DatasetManifest& manifest = finished.parts.emplace_back();
            manifest.tokenizer = options_.tokenizer;
            manifest.tokenizer_fingerprint = tokenizer_->fingerprint();
            manifest.vocab_size = tokenizer_->vocab_size();
            manifest.end_of_text = tokenizer_->end_of_text();
            manifest.skipped_lines = skipped_lines_;
            part.finish(manifest);
        }
        write_finished(options_.output, finished);
        is_finished_ = true;
        for (size_t i = 0; i < parts_.size(); ++i) parts_[i].publish(finished.parts[i]);
        ::unlink(progress_path(options_.output).c_str());
        return end(finished);
    }

    // A run that was killed while it gave the files their names has nothing more to read.
    std::optional<PrepareResult> finish_former() {
        if (std::any_of(inputs_.begin(), inputs_.end(), is_standard_input)) return std::nullopt;
        const auto finished =
            publish_finished(options_.output, fingerprint_, prefixes(), options_.on_check);
        if (!finished) return std::nullopt;
        for (const DatasetManifest& part : finished->parts) resumed_bytes_ += part.text_bytes;
        return end(*finished);
    }

    PrepareResult end(const FinishedDatasets& finished) const {
        const auto counts = [&](size_t part) {
            const DatasetManifest& manifest = finished.parts[part];
            return PrepareCounts{manifest.documents, manifest.tokens, manifest.text_bytes};
        };
        PrepareResult result;
        result.prefixes = prefixes();
        result.train = counts(0);
        if (parts_.size() > 1) result.valid = counts(1);
        result.skipped_lines = finished.parts[0].skipped_lines;
        result.resumed_bytes = resumed_bytes_;
        return result;
    }

    std::vector<std::string> prefixes() const {
        std::vector<std::string> all;
        for (const Part& part : parts_) all.push_back(part.prefix());
        return all;
    }

    const PrepareOptions& options_;
    std::vector<std::string> inputs_;
    std::unique_ptr<Tokenizer> tokenizer_;
    TokenType token_type_;
    std::vector<Part> parts_;
    std::string fingerprint_;
    bool has_checkpoint_ = false;  // PREFIX.partial is one of ours to go on from
    bool is_finished_ = false;     // PREFIX.partial says so
    int64_t checkpoint_at_ = 0;    // text bytes that it covers
    int64_t skipped_lines_ = 0;
    int64_t resumed_bytes_ = 0;
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options) {
    const std::vector<std::string> inputs = list_inputs(options.inputs);
    check_options(options, inputs);
    return Preparation(options, inputs).run();
}

}  // namespace trireme
