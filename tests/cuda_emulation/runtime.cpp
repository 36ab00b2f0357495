// CUDA's runtime calls. A stream is a thread with a queue of work, so that what is not waited for
// really runs at another time than the host, and ThreadSanitizer can see it.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "tests/cuda_emulation/emulation.h"

namespace cuda_emulation {

// A place in a stream's order that an event was recorded at.
class Mark {
public:
    void reach() {
        {
            const std::lock_guard lock(mutex_);
            reached_ = true;
            time_ = std::chrono::steady_clock::now();
        }
        changed_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return reached_; });
    }
    bool reached() {
        const std::lock_guard lock(mutex_);
        return reached_;
    }
    std::chrono::steady_clock::time_point time() {
        const std::lock_guard lock(mutex_);
        return time_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool reached_ = false;
    std::chrono::steady_clock::time_point time_;
};

class Event {
public:
    std::shared_ptr<Mark> mark;  // of the last record; null: never recorded, which counts as done
};

// What a stream recorded, in its order; both a cudaGraph_t and a cudaGraphExec_t.
class Graph {
public:
    std::vector<std::function<void()>> work;
};

// What a host thread records at the moment. A call that CUDA does not allow meanwhile spoils it.
struct Recording {
    Stream* stream = nullptr;  // null: nothing
    Graph graph;
    bool is_spoilt = false;
};
thread_local Recording recording;

// Of this host thread, until it is asked for.
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t fail(cudaError_t error) {
    last_error = error;
    return error;
}

cudaError_t spoil_recording() {
    recording.is_spoilt = true;
    return fail(cudaErrorStreamCaptureUnsupported);
}

class Stream {
public:
    Stream() : thread_([this] { run(); }) {}
    ~Stream() {
        {
            const std::lock_guard lock(mutex_);
            ends_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }

    void push(std::function<void()> work) {
        {
            const std::lock_guard lock(mutex_);
            work_.push_back(std::move(work));
            ++unfinished_;
        }
        changed_.notify_all();
    }
    bool is_idle() {
        const std::lock_guard lock(mutex_);
        return unfinished_ == 0;
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return unfinished_ == 0; });
    }

private:
    void run() {
        while (true) {
            std::function<void()> work;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [&] { return ends_ || !work_.empty(); });
                if (work_.empty()) return;
                work = std::move(work_.front());
                work_.pop_front();
            }
            work();
            {
                const std::lock_guard lock(mutex_);
                --unfinished_;
            }
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> work_;
    int unfinished_ = 0;
    bool ends_ = false;
    std::thread thread_;
};

namespace {

std::atomic<int> device_count{1};
std::atomic<size_t> memory_limit{size_t{4} << 30};
std::atomic<bool> refuses_graphs{false};
std::atomic<int> graphs_made{0};

// The streams of each host thread, which is to the emulation what a process with a GPU is.
std::mutex streams_mutex;
std::multimap<std::thread::id, Stream*> streams;

// As on a GPU: memory is freed when nothing that this process has enqueued can still use it.
void wait_for_own_streams() {
    std::vector<Stream*> own;
    {
        const std::lock_guard lock(streams_mutex);
        const auto [begin, end] = streams.equal_range(std::this_thread::get_id());
        for (auto it = begin; it != end; ++it) own.push_back(it->second);
    }
    for (Stream* stream : own) stream->wait();
}

std::mutex memory_mutex;
std::map<void*, size_t> allocations;
size_t allocated = 0;

}  // namespace

void enqueue(cudaStream_t stream, std::function<void()> work) {
    if (!stream) {
        std::fprintf(stderr, "CUDA emulation: work on the default stream\n");
        std::abort();
    }
    if (recording.stream == stream) {
        recording.graph.work.push_back(std::move(work));
        return;
    }
    stream->push(std::move(work));
}

void load_kernel(uint64_t identity) {
    thread_local std::set<uint64_t> loaded;
    if (!loaded.insert(identity).second) return;
    if (recording.stream) {
        recording.is_spoilt = true;
    } else {
        wait_for_own_streams();
    }
}

void set_device_count(int count) {
    device_count = count;
}

void set_memory_limit(size_t bytes) {
    memory_limit = bytes;
}

void refuse_graphs(bool refused) {
    refuses_graphs = refused;
}

int take_graphs_made() {
    return graphs_made.exchange(0);
}

size_t memory_in_use() {
    const std::lock_guard lock(memory_mutex);
    return allocated;
}

bool is_device_memory(const void* memory, size_t bytes) {
    const std::lock_guard lock(memory_mutex);
    const auto* begin = static_cast<const char*>(memory);
    const auto next = allocations.upper_bound(const_cast<char*>(begin));
    if (next == allocations.begin()) return false;
    const auto& [address, size] = *std::prev(next);
    return begin + bytes <= static_cast<const char*>(address) + size;
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInsufficientDriver:
            return "no driver";
        case cudaErrorNoDevice:
            return "no device";
        case cudaErrorStreamCaptureUnsupported:
            return "not while a stream records";
        case cudaErrorStreamCaptureInvalidated:
            return "the recording was spoilt";
        default:
            return "failed";
    }
}

const char* cudaGetErrorName(cudaError_t) {
    return "an emulated error";
}

cudaError_t cudaGetLastError() {
    return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = device_count;
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device) {
    return device < device_count ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device >= device_count) return cudaErrorInvalidDevice;
    *properties = {};
    // A name whose rate is known: the trainer measures that of others, which takes minutes here.
    std::strcpy(properties->name, "emulated H200");
    properties->totalGlobalMem = memory_limit;
    properties->major = 9;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) {
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
    if (recording.stream) return spoil_recording();
    const std::lock_guard lock(memory_mutex);
    *memory = nullptr;
    if (allocated + bytes > memory_limit) return fail(cudaErrorMemoryAllocation);
    // As on a GPU, it is not cleared: NaN in every type that arithmetic is done in.
    *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*memory, 0xff, bytes);
    allocations[*memory] = bytes;
    allocated += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    if (recording.stream) return spoil_recording();
    wait_for_own_streams();
    const std::lock_guard lock(memory_mutex);
    if (!memory) return cudaSuccess;
    const auto found = allocations.find(memory);
    if (found == allocations.end()) return cudaErrorInvalidValue;
    allocated -= found->second;
    allocations.erase(found);
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
    if (recording.stream) return spoil_recording();
    *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* memory) {
    if (recording.stream) return spoil_recording();
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    *total = memory_limit;
    *free = *total - memory_in_use();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
    *stream = new Stream;
    const std::lock_guard lock(streams_mutex);
    streams.emplace(std::this_thread::get_id(), *stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    {
        const std::lock_guard lock(streams_mutex);
        std::erase_if(streams, [&](const auto& entry) { return entry.second == stream; });
    }
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    if (recording.stream) return spoil_recording();
    return stream->is_idle() ? cudaSuccess : fail(cudaErrorNotReady);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (recording.stream) return spoil_recording();
    stream->wait();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (recording.stream) return spoil_recording();
    if (event->mark) enqueue(stream, [mark = event->mark] { mark->wait(); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new Event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (recording.stream) return spoil_recording();
    event->mark = std::make_shared<Mark>();
    enqueue(stream, [mark = event->mark] { mark->reach(); });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (recording.stream) return spoil_recording();
    return !event->mark || event->mark->reached() ? cudaSuccess : fail(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (recording.stream) return spoil_recording();
    if (event->mark) event->mark->wait();
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    if (!begin->mark || !end->mark || !begin->mark->reached() || !end->mark->reached()) {
        return cudaErrorNotReady;
    }
    *milliseconds =
        std::chrono::duration<float, std::milli>(end->mark->time() - begin->mark->time()).count();
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    enqueue(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
    enqueue(stream, [=] { std::memset(memory, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (recording.stream) return spoil_recording();
    if (refuses_graphs) return fail(cudaErrorStreamCaptureUnsupported);
    recording = {.stream = stream, .graph = {}, .is_spoilt = false};
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = nullptr;
    if (recording.stream != stream) return cudaErrorInvalidValue;
    const Recording ended = std::exchange(recording, {});
    if (ended.is_spoilt) return fail(cudaErrorStreamCaptureInvalidated);
    *graph = new Graph(ended.graph);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
    wait_for_own_streams();  // as CUDA may, for the memory that it takes
    *executable = new Graph(*graph);
    ++graphs_made;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const auto& work : executable->work) enqueue(stream, work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}
