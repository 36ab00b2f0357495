#include "parallel/nccl/nccl_run.h"

#include <algorithm>
#include <exception>

#include "core/cuda/cuda_error.h"
#include "core/log.h"
#include "core/service_thread.h"
#include "parallel/nccl/nccl_queue.h"

namespace trireme {

namespace {

using std::chrono::milliseconds;

// How long a failed run's calls into NCCL get to return.
constexpr milliseconds kCallGrace{5000};
// How long a rank to which NCCL reports a failure of another waits for that rank, which knows the
// cause, to end the run.
constexpr milliseconds kRemoteGrace{1000};

std::string seconds(milliseconds time) {
    return std::to_string(static_cast<double>(time.count()) / 1000.0) + " s";
}

}  // namespace

NcclRun::NcclRun(World& control, CudaDevice& device, milliseconds timeout)
    : control_(control),
      device_(device),
      timeout_(timeout),
      exceptions_at_start_(std::uncaught_exceptions()),
      small_memory_(device.allocate(sizeof(double), "communication")) {
    watcher_ = start_service_thread("nccl watch", [this] { watch(); });
}

NcclRun::~NcclRun() {
    {
        const std::lock_guard lock(mutex_);
        stops_ = true;
    }
    stop_.notify_all();
    watcher_.join();
    device_.release(small_memory_);
}

milliseconds NcclRun::grace() const {
    return std::min(timeout_, kRemoteGrace);
}

bool NcclRun::unwinding() const {
    return std::uncaught_exceptions() > exceptions_at_start_;
}

void NcclRun::throw_if_failed() {
    if (!has_failed()) return;
    {
        const std::lock_guard inside(inside_nccl_);
        abort_queues();
    }
    throw Error(*error_);
}

void NcclRun::fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    keep(error);
}

void NcclRun::keep(const Error& error) {
    if (error_) return;
    error_.emplace(error);
    failed_.store(true, std::memory_order_release);
}

void NcclRun::give_up() {
    fail(InternalError("communication: this rank has failed"));
    const std::lock_guard inside(inside_nccl_);
    abort_queues();
}

void NcclRun::release(const void* memory, size_t bytes) {
    if (unwinding() && std::any_of(queues_.begin(), queues_.end(),
                                   [](NcclQueue* queue) { return queue->is_busy(); })) {
        give_up();
    }
    for (NcclQueue* queue : queues_) {
        queue->forget_memory(memory, bytes);
        if (has_failed()) queue->drain();
    }
}

void NcclRun::add(NcclQueue& queue) {
    const std::lock_guard lock(mutex_);
    queues_.push_back(&queue);
}

void NcclRun::remove(NcclQueue& queue) {
    const std::lock_guard lock(mutex_);
    std::erase(queues_, &queue);
}

void NcclRun::begin_call(const NcclQueue& queue, const char* what) {
    if (has_failed()) {
        abort_queues();
        throw Error(*error_);
    }
    call_queue_.store(&queue, std::memory_order_relaxed);
    call_what_.store(what, std::memory_order_relaxed);
    call_since_.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
}

void NcclRun::end_call(const NcclQueue& queue, const char* what, ncclResult_t result) {
    call_since_.store(0, std::memory_order_release);
    if (result == ncclSuccess) return;
    if (result == ncclRemoteError || result == ncclSystemError) {
        std::this_thread::sleep_for(grace());
    }
    fail(queue.failure(result, what));
    abort_queues();
    throw Error(*error_);
}

// In one group, which tells the kernels of all communicators to end before it waits for any: one
// may stand behind compute that waits for another.
void NcclRun::abort_queues() {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
    ncclGroupStart();
    for (NcclQueue* queue : queues_) queue->abort();
    ncclGroupEnd();
    aborted_ = true;
}

void NcclRun::watch() {
    cudaSetDevice(device_.ordinal());
    const milliseconds pause = std::clamp(timeout_ / 8, milliseconds(1), milliseconds(100));
    std::unique_lock lock(mutex_);
    while (!stop_.wait_for(lock, pause, [this] { return stops_; })) {
        if (!error_) {
            if (const std::optional<Error> trouble = find_trouble()) keep(*trouble);
        }
        if (!error_ || aborted_ || run_ended_) continue;
        lock.unlock();
        end_kernels();
        lock.lock();
    }
}

std::optional<Error> NcclRun::find_trouble() {
    const Clock::time_point now = Clock::now();
    const Clock::time_point call_since{
        Clock::duration(call_since_.load(std::memory_order_acquire))};
    if (call_since != Clock::time_point{} && now - call_since > timeout_) {
        const NcclQueue& queue = *call_queue_.load(std::memory_order_relaxed);
        return hang(std::string("NCCL to return from '") +
                    call_what_.load(std::memory_order_relaxed) + "' in " + queue.describe_group());
    }
    for (NcclQueue* queue : queues_) {
        if (std::optional<Error> trouble = queue->find_trouble(now)) return trouble;
    }
    return std::nullopt;
}

Error NcclRun::hang(const std::string& waited_for) const {
    return Error(ExitCode::hang,
                 "communication hangs: rank " + std::to_string(control_.rank()) +
                     " waited more than " + seconds(timeout_) + " for " + waited_for +
                     "; not all members have come as far. Look in the other ranks' logs for what "
                     "they do instead");
}

// Kernels that wait for other ranks end only with their communicators. These must not be aborted
// during a call of this rank into NCCL, which would use them on. A call that does not return is
// ended with the process.
void NcclRun::end_kernels() {
    const Clock::time_point limit = Clock::now() + std::min(timeout_, kCallGrace);
    while (!inside_nccl_.try_lock()) {
        if (Clock::now() > limit) {
            Log(control_.rank(), control_.size()).error(error_->what());
            try {
                control_.abort(static_cast<int>(error_->code()));
            } catch (const Error&) {
                // Ranks as threads: the process goes on.
            }
            const std::lock_guard lock(mutex_);
            run_ended_ = true;
            return;
        }
        std::this_thread::sleep_for(milliseconds(1));
    }
    const std::lock_guard inside(inside_nccl_, std::adopt_lock);
    abort_queues();
}

}  // namespace trireme
