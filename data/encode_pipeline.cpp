#include "data/encode_pipeline.h"

#include <string>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/service_thread.h"

namespace trireme {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;
constexpr size_t kBatchDocuments = 2048;
// A document that was far larger than a batch gives its memory back.
constexpr size_t kKeptBytes = size_t{2} << 20;

void clear(DocumentBatch& batch) {
    for (RawDocument& raw : batch.raw) {
        if (raw.bytes.capacity() > kKeptBytes) raw.bytes = {};
    }
    for (EncodedDocument& encoded : batch.encoded) {
        if (encoded.ids.capacity() * sizeof(int32_t) > kKeptBytes) encoded.ids = {};
    }
    batch.n = 0;
    batch.read_error = nullptr;
}

}  // namespace

EncodePipeline::EncodePipeline(DocumentStream& stream, Encode encode, int workers)
    : stream_(stream), encode_(std::move(encode)) {
    for (int i = 0; i < 2 * workers + 1; ++i) slots_.push_back(std::make_unique<Slot>());
    try {
        threads_.reserve(static_cast<size_t>(workers));
        for (int i = 0; i < workers; ++i) {
            threads_.push_back(start_service_thread("encode", [this] { work(); }));
        }
    } catch (const std::system_error& error) {
        stop();
        throw Error(ExitCode::config, "cannot start " + std::to_string(workers) +
                                          " worker threads, only " +
                                          std::to_string(threads_.size()) + ": " + error.what() +
                                          "; lower --workers");
    } catch (...) {
        stop();
        throw;
    }
}

EncodePipeline::~EncodePipeline() {
    stop();
}

void EncodePipeline::stop() {
    {
        const std::lock_guard lock(mutex_);
        stops_ = true;
    }
    has_work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

const DocumentBatch* EncodePipeline::next() {
    while (!at_end_ && n_read_ < n_given_ + slots_.size()) {
        Slot& slot = *slots_[n_read_ % slots_.size()];
        read(slot.batch);
        if (slot.batch.n == 0 && slot.batch.read_error == nullptr) break;
        ++n_read_;
        {
            const std::lock_guard lock(mutex_);
            slot.done = false;
            queue_.push_back(&slot);
        }
        has_work_.notify_one();
    }
    if (n_given_ == n_read_) return nullptr;
    Slot& slot = *slots_[n_given_++ % slots_.size()];
    std::unique_lock lock(mutex_);
    has_result_.wait(lock, [&] { return slot.done; });
    return &slot.batch;
}

void EncodePipeline::read(DocumentBatch& batch) {
    clear(batch);
    size_t n_bytes = 0;
    try {
        while (batch.n < kBatchDocuments && n_bytes < kBatchBytes) {
            if (batch.n == batch.raw.size()) batch.raw.emplace_back();
            if (!stream_.next(batch.raw[batch.n])) {
                at_end_ = true;
                break;
            }
            n_bytes += batch.raw[batch.n++].bytes.size();
        }
    } catch (...) {
        batch.read_error = std::current_exception();
        at_end_ = true;
    }
    if (batch.encoded.size() < batch.n) batch.encoded.resize(batch.n);
    batch.after = stream_.position();
    batch.stored_position = stream_.stored_position();
}

void EncodePipeline::work() {
    for (;;) {
        std::unique_lock lock(mutex_);
        has_work_.wait(lock, [&] { return stops_ || !queue_.empty(); });
        if (stops_) return;
        Slot& slot = *queue_.front();
        queue_.pop_front();
        lock.unlock();
        for (size_t i = 0; i < slot.batch.n; ++i) {
            encode_(slot.batch.raw[i], slot.batch.encoded[i]);
        }
        lock.lock();
        slot.done = true;
        lock.unlock();
        has_result_.notify_one();
    }
}

}  // namespace trireme
