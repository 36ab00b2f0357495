#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/document_stream.h"

namespace trireme {

struct EncodedDocument {
    std::vector<int32_t> ids;  // empty: the document has no text
    int64_t text_bytes = 0;
    std::exception_ptr error;  // instead of ids
};

// Documents that follow each other in the input.
struct DocumentBatch {
    std::vector<RawDocument> raw;
    std::vector<EncodedDocument> encoded;
    size_t n = 0;                   // of both that count; the others are kept for their memory
    DocumentPosition after;         // of the stream, behind the last one
    int64_t stored_position = 0;    // of the stream
    std::exception_ptr read_error;  // what the stream threw behind the last one
};

// Reads documents, lets worker threads encode them and hands them over in the order of the input.
// The calling thread reads, and a bounded number of batches is under way at a time.
class EncodePipeline {
public:
    // Must not throw, and is called by several threads at a time.
    using Encode = std::function<void(const RawDocument&, EncodedDocument&)>;

    // Reads nothing yet. Error(config) when the system does not give so many threads.
    EncodePipeline(DocumentStream& stream, Encode encode, int workers);
    ~EncodePipeline();
    EncodePipeline(const EncodePipeline&) = delete;
    EncodePipeline& operator=(const EncodePipeline&) = delete;

    // The next batch, valid until the next call; null at the end of the input.
    const DocumentBatch* next();

private:
    struct Slot {
        DocumentBatch batch;
        bool done = false;  // guarded by mutex_
    };

    void read(DocumentBatch& batch);
    void work();
    void stop();  // ends the threads

    DocumentStream& stream_;
    Encode encode_;
    std::vector<std::unique_ptr<Slot>> slots_;
    size_t n_read_ = 0;
    size_t n_given_ = 0;
    bool at_end_ = false;
    std::mutex mutex_;
    std::condition_variable has_work_, has_result_;
    std::deque<Slot*> queue_;  // guarded by mutex_
    bool stops_ = false;       // guarded by mutex_
    std::vector<std::thread> threads_;
};

}  // namespace trireme
