#include "data/prepare.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <thread>

#include "core/error.h"
#include "data/document_stream.h"
#include "data/document_text.h"
#include "data/indexed_dataset_writer.h"
#include "data/tokenizer.h"

namespace trireme {
namespace {

constexpr size_t kBatchBytesPerWorker = size_t{2} << 20;
constexpr size_t kBatchDocumentsPerWorker = 4096;

struct Encoded {
    std::vector<int32_t> ids;
    int64_t text_bytes = 0;
    std::exception_ptr error;
};

void check_options(const PrepareOptions& options) {
    if (options.inputs.empty()) {
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
}

// Byte of the joined texts at which the validation part begins.
int64_t held_out_from(const PrepareOptions& options) {
    if (options.valid_fraction == 0.0) return std::numeric_limits<int64_t>::max();
    int64_t total = 0;
    for (const std::string& path : options.inputs) total += text_size(path);
    return total - std::llround(options.valid_fraction * static_cast<double>(total));
}

// One part of the output. Files appear with its first document, so that bad input touches nothing.
class Part {
public:
    Part(std::string prefix, int64_t vocab_size)
        : prefix_(std::move(prefix)), vocab_size_(vocab_size) {}

    const std::string& prefix() const { return prefix_; }
    const PrepareCounts& counts() const { return counts_; }

    void add(const Encoded& document) {
        if (writer_ == nullptr) {
            writer_ = std::make_unique<IndexedDatasetWriter>(prefix_, vocab_size_);
        }
        writer_->add_document(document.ids);
        ++counts_.documents;
        counts_.tokens += static_cast<int64_t>(document.ids.size());
        counts_.bytes += document.text_bytes;
    }
    void finish() { writer_->finish(); }

private:
    std::string prefix_;
    int64_t vocab_size_;
    std::unique_ptr<IndexedDatasetWriter> writer_;
    PrepareCounts counts_;
};

class Preparation {
public:
    explicit Preparation(const PrepareOptions& options)
        : options_(options), tokenizer_(make_tokenizer(options.tokenizer)) {
        const bool split = options.valid_fraction > 0.0;
        parts_.emplace_back(options.output + (split ? "-train" : ""), tokenizer_->vocab_size());
        if (split) parts_.emplace_back(options.output + "-valid", tokenizer_->vocab_size());
    }

    PrepareResult run() {
        int64_t total = 0;
        for (const std::string& path : options_.inputs) total += TextFile(path).stored_size();
        DocumentStream stream(options_.inputs, held_out_from(options_));
        while (const size_t n = read_batch(stream)) {
            encode_batch(n);
            write_batch(n);
            if (options_.progress) options_.progress(stream.stored_position(), total);
        }
        return finish();
    }

private:
    size_t read_batch(DocumentStream& stream) {
        const auto n_workers = static_cast<size_t>(options_.workers);
        size_t n = 0;
        size_t n_bytes = 0;
        while (n < n_workers * kBatchDocumentsPerWorker &&
               n_bytes < n_workers * kBatchBytesPerWorker) {
            if (n == raw_.size()) raw_.emplace_back();
            if (!stream.next(raw_[n])) break;
            n_bytes += raw_[n++].bytes.size();
        }
        return n;
    }

    void encode_batch(size_t n) {
        if (encoded_.size() < n) encoded_.resize(n);
        std::atomic<size_t> next{0};
        const auto work = [&] {
            for (size_t i = next++; i < n; i = next++) encode(raw_[i], encoded_[i]);
        };
        std::vector<std::jthread> threads;
        for (int i = 1; i < options_.workers; ++i) threads.emplace_back(work);
        work();
    }

    // Keeps what it throws: the first error in input order is reported, not the first in time.
    void encode(const RawDocument& raw, Encoded& encoded) const {
        encoded.ids.clear();
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

    void write_batch(size_t n) {
        for (size_t i = 0; i < n; ++i) {
            if (encoded_[i].error) std::rethrow_exception(encoded_[i].error);
            if (encoded_[i].ids.empty()) continue;
            parts_[raw_[i].held_out ? 1 : 0].add(encoded_[i]);
        }
    }

    PrepareResult finish() {
        int64_t n_documents = 0;
        for (const Part& part : parts_) n_documents += part.counts().documents;
        if (n_documents == 0) {
            const char* others = options_.inputs.size() > 1 ? " and the others hold" : " holds";
            throw Error(ExitCode::bad_data, "input " + options_.inputs[0] + others +
                                                " no text: the corpus would be empty");
        }
        PrepareResult result;
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
        for (Part& part : parts_) {
            part.finish();
            result.prefixes.push_back(part.prefix());
        }
        result.train = parts_[0].counts();
        if (parts_.size() > 1) result.valid = parts_[1].counts();
        return result;
    }

    const PrepareOptions& options_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::vector<Part> parts_;
    std::vector<RawDocument> raw_;
    std::vector<Encoded> encoded_;
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options) {
    check_options(options);
    return Preparation(options).run();
}

}  // namespace trireme
