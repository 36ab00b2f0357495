#include "core/cuda/host_staging.h"

#include <algorithm>
#include <cstring>

#include "core/cuda/cuda_error.h"

namespace trireme {

namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kSmallDownload = size_t{64} << 10;

size_t aligned(size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

HostStaging::HostStaging(CudaStream& stream, size_t capacity_bytes)
    : stream_(stream), capacity_(aligned(capacity_bytes)) {
    void* memory = nullptr;
    check_cuda(cudaMallocHost(&memory, capacity_), "taking page-locked host memory");
    memory_ = static_cast<char*>(memory);
    stream_.add_idle_hook([this] { finish_downloads(); });
}

HostStaging::~HostStaging() {
    cudaFreeHost(memory_);
}

char* HostStaging::reserve(size_t bytes) {
    const size_t needed = aligned(bytes);
    unused_end_ = next_ + needed > capacity_ ? capacity_ - next_ : 0;
    while (used_ + unused_end_ + needed > capacity_) {
        // An upload's bytes are free once it is done, a download's once they were handed over.
        if (!downloads_.empty()) {
            stream_.synchronize();
        } else {
            stream_.host_wait(pieces_.front().done.ticket);
        }
        used_ -= pieces_.front().bytes;
        pieces_.pop_front();
    }
    if (unused_end_ > 0) next_ = 0;
    char* piece = memory_ + next_;
    next_ = (next_ + needed) % capacity_;
    used_ += unused_end_ + needed;
    return piece;
}

void HostStaging::upload(void* device, const void* host, size_t bytes) {
    const size_t most = capacity_ / 4;
    for (size_t at = 0; at < bytes;) {
        const size_t count = std::min(most, bytes - at);
        char* staged = reserve(count);
        std::memcpy(staged, static_cast<const char*>(host) + at, count);
        check_cuda(cudaMemcpyAsync(static_cast<char*>(device) + at, staged, count,
                                   cudaMemcpyHostToDevice, stream_.handle()),
                   "copying to the GPU");
        pieces_.push_back({unused_end_ + aligned(count), stream_.record()});
        at += count;
    }
}

void HostStaging::download(void* host, const void* device, size_t bytes) {
    if (bytes == 0) return;
    if (bytes > kSmallDownload) {
        const size_t most = capacity_ / 4;
        for (size_t at = 0; at < bytes;) {
            const size_t count = std::min(most, bytes - at);
            char* staged = reserve(count);
            check_cuda(cudaMemcpyAsync(staged, static_cast<const char*>(device) + at, count,
                                       cudaMemcpyDeviceToHost, stream_.handle()),
                       "copying from the GPU");
            const Event done = stream_.record();
            pieces_.push_back({unused_end_ + aligned(count), done});
            stream_.host_wait(done.ticket);
            std::memcpy(static_cast<char*>(host) + at, staged, count);
            at += count;
        }
        return;
    }
    char* staged = reserve(bytes);
    check_cuda(cudaMemcpyAsync(staged, device, bytes, cudaMemcpyDeviceToHost, stream_.handle()),
               "copying from the GPU");
    pieces_.push_back({unused_end_ + aligned(bytes), stream_.record()});
    downloads_.push_back({host, staged, bytes});
}

void HostStaging::finish_downloads() {
    for (const Download& download : downloads_) {
        std::memcpy(download.host, download.staged, download.bytes);
    }
    downloads_.clear();
}

}  // namespace trireme
