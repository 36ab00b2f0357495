#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "core/cuda/cuda_stream.h"

namespace trireme {

// Page-locked memory through which copies between ordinary host memory and the device pass, so that
// neither the call nor the device waits. A ring of bytes; a copy waits for the host only when the
// ring is full of copies that are still under way.
class HostStaging {
public:
    HostStaging(CudaStream& stream, size_t capacity_bytes);
    ~HostStaging();
    HostStaging(const HostStaging&) = delete;
    HostStaging& operator=(const HostStaging&) = delete;

    // Returns once `host` may be reused.
    void upload(void* device, const void* host, size_t bytes);
    // Small copies reach `host` at the stream's next synchronize(), large ones before this returns.
    void download(void* host, const void* device, size_t bytes);

private:
    struct Piece {
        size_t bytes = 0;  // of the ring, the unused end included
        Event done;
    };
    struct Download {
        void* host = nullptr;
        const void* staged = nullptr;
        size_t bytes = 0;
    };

    char* reserve(size_t bytes);
    void finish_downloads();

    CudaStream& stream_;
    const size_t capacity_;
    char* memory_ = nullptr;
    size_t next_ = 0;  // offset of the next piece
    size_t used_ = 0;
    size_t unused_end_ = 0;  // bytes skipped at the end by the piece being reserved
    std::deque<Piece> pieces_;
    std::vector<Download> downloads_;
};

}  // namespace trireme
