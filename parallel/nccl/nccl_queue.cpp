#include "parallel/nccl/nccl_queue.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "core/cuda/cuda_error.h"
#include "parallel/group_members.h"
#include "parallel/rank_report.h"

namespace trireme {

namespace {

bool has_passed(cudaEvent_t event) {
    const cudaError_t status = cudaEventQuery(event);
    if (status == cudaErrorNotReady) cudaGetLastError();  // it is no error for the next call
    return status == cudaSuccess;
}

ncclDataType_t nccl_type(DType type) {
    switch (type) {
        case DType::f32:
            return ncclFloat32;
        case DType::bf16:
            return ncclBfloat16;
        case DType::f64:
            return ncclFloat64;
        default:
            throw InternalError("communication: a reduction of " + std::string(name_of(type)));
    }
}

}  // namespace

std::string NcclGroup::describe() const {
    return group_text(name, world_ranks);
}

NcclQueue::NcclQueue(NcclRun& run, const NcclGroup& group, CudaStream::Priority priority)
    : run_(run),
      group_(group),
      board_(run.activity()),
      activity_(board_.add_group(group.name, group.world_ranks)),
      stream_(priority) {
    run_.add(*this);
}

NcclQueue::~NcclQueue() {
    if (run_.unwinding()) run_.give_up();
    try {
        host_wait(issued_);
        ncclComm_t comm = nullptr;
        {
            const std::lock_guard lock(run_.mutex());
            comm = std::exchange(comm_, nullptr);
        }
        if (comm) {
            run_.call(*this, "taking the communicator down", [&] {
                for (const Registration& registered : registrations_) {
                    ncclCommDeregister(comm, registered.handle);
                }
                return ncclCommDestroy(comm);
            });
        }
    } catch (const Error&) {
        run_.give_up();
        drain();
    }
    run_.remove(*this);
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

// A blocking communicator: of one that is not, NCCL performs every operation on a thread that it
// starts for it, and the host must then wait for that thread before it may record an event.
void NcclQueue::open(const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    config.commName = group_.name.c_str();
#endif
    ncclComm_t comm = nullptr;
    run_.call(*this, "making the communicator", [&] {
        return ncclCommInitRankConfig(&comm, group_.size(), id, group_.rank, &config);
    });
    const std::lock_guard lock(run_.mutex());
    comm_ = comm;
}

void NcclQueue::connect(const Operation& operation) {
    host_wait(issue(nullptr, operation).ticket);
    ++connecting_operations_;
}

Event NcclQueue::issue(Stream* after, const Operation& operation) {
    run_.throw_if_failed();
    if (after) stream_.wait(after->record());
    Pending next{operation, spare_event(), spare_event()};
    next.operation.ticket = issued_ + 1;  // only this thread changes it
    next.operation.record = board_.issue(*activity_, next.operation);
    check_cuda(cudaEventRecord(next.ready, stream_.handle()), "recording an event");
    if (operation.elements > 0) {
        run_.call(*this, operation.label, [&] { return start(operation); });
    }
    check_cuda(cudaEventRecord(next.done, stream_.handle()), "recording an event");
    const std::lock_guard lock(run_.mutex());
    advance();
    append(next);
    return {this, issued_};
}

// What is only moved, moves as bytes.
ncclResult_t NcclQueue::start(const Operation& op) {
    cudaStream_t stream = stream_.handle();
    const size_t elements = static_cast<size_t>(op.elements);
    switch (op.kind) {
        case OperationKind::all_reduce:
            return ncclAllReduce(op.output, op.output, elements, nccl_type(op.dtype),
                                 op.reduce == ReduceOp::sum ? ncclSum : ncclMax, comm_, stream);
        case OperationKind::all_gather:
            return ncclAllGather(op.input, op.output, op.bytes(), ncclUint8, comm_, stream);
        case OperationKind::reduce_scatter:
            return ncclReduceScatter(op.input, op.output, elements, nccl_type(op.dtype), ncclSum,
                                     comm_, stream);
        case OperationKind::all_to_all:
            return start_all_to_all(op);
        case OperationKind::broadcast:
            return ncclBroadcast(op.output, op.output, op.bytes(), ncclUint8, op.peer, comm_,
                                 stream);
        case OperationKind::send:
            return ncclSend(op.input, op.bytes(), ncclUint8, op.peer, comm_, stream);
        case OperationKind::recv:
            return ncclRecv(op.output, op.bytes(), ncclUint8, op.peer, comm_, stream);
        case OperationKind::barrier:
            break;
    }
    throw InternalError("communication: an operation that NCCL does not have");
}

// As messages, this rank's to itself among them: only newer versions have an operation for it. In
// one group, so that none waits for another.
ncclResult_t NcclQueue::start_all_to_all(const Operation& op) {
    if (const ncclResult_t result = ncclGroupStart(); result != ncclSuccess) return result;
    const auto* from = static_cast<const char*>(op.input);
    auto* to = static_cast<char*>(op.output);
    ncclResult_t result = ncclSuccess;
    for (int member = 0; member < group_.size() && result == ncclSuccess; ++member) {
        result = ncclSend(from, op.bytes(), ncclUint8, member, comm_, stream_.handle());
        if (result != ncclSuccess) break;
        result = ncclRecv(to, op.bytes(), ncclUint8, member, comm_, stream_.handle());
        from += op.bytes();
        to += op.bytes();
    }
    const ncclResult_t end = ncclGroupEnd();  // after a failure too, or the group would stay open
    return result != ncclSuccess ? result : end;
}

void NcclQueue::register_memory(const Tensor& memory) {
    Registration next{static_cast<const char*>(memory.data), memory.bytes(), nullptr};
    if (!next.begin || next.bytes == 0) return;
    const auto holds_next = [&](const Registration& known) {
        return next.begin >= known.begin && next.begin + next.bytes <= known.begin + known.bytes;
    };
    if (std::any_of(registrations_.begin(), registrations_.end(), holds_next)) return;
    run_.call(*this, "registering memory",
              [&] { return ncclCommRegister(comm_, memory.data, memory.bytes(), &next.handle); });
    registrations_.push_back(next);
}

void NcclQueue::forget_memory(const void* begin, size_t bytes) {
    const auto* first = static_cast<const char*>(begin);
    for (size_t i = registrations_.size(); i-- > 0;) {
        const Registration registered = registrations_[i];
        if (registered.begin < first || registered.begin >= first + bytes) continue;
        registrations_.erase(registrations_.begin() + static_cast<std::ptrdiff_t>(i));
        try {
            host_wait(issued_);
            run_.call(*this, "forgetting registered memory",
                      [&] { return ncclCommDeregister(comm_, registered.handle); });
        } catch (const Error&) {
            continue;  // the communicators are aborted; the run keeps the error
        }
    }
}

void NcclQueue::host_wait(uint64_t ticket) {
    const Clock::time_point begin = Clock::now();
    while (!done(ticket)) {
        // Short waits are spun through, long ones leave the core to others.
        if (Clock::now() - begin > std::chrono::milliseconds(1)) {
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        } else {
            std::this_thread::yield();
        }
    }
}

bool NcclQueue::done(uint64_t ticket) {
    {
        const std::lock_guard lock(run_.mutex());
        advance();
        if (ticket <= finished_) return true;
        if (!run_.has_failed()) {
            const cudaError_t status = cudaEventQuery(pending(finished_ + 1).done);
            if (status == cudaErrorNotReady) {
                cudaGetLastError();
            } else {
                check_cuda(status, "communication on the GPU");
            }
        }
    }
    run_.throw_if_failed();
    return false;
}

void* NcclQueue::native_event(uint64_t ticket) {
    run_.throw_if_failed();
    const std::lock_guard lock(run_.mutex());
    TRIREME_CHECK(ticket >= 1 && ticket <= issued_, "the ticket of an operation");
    advance();
    if (ticket <= finished_) return nullptr;  // and host_wait() returns at once
    return pending(ticket).done;
}

cudaEvent_t NcclQueue::spare_event() {
    {
        const std::lock_guard lock(run_.mutex());
        if (!spare_events_.empty()) {
            cudaEvent_t event = spare_events_.back();
            spare_events_.pop_back();
            return event;
        }
    }
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    events_.push_back(event);
    return event;
}

void NcclQueue::append(const Pending& next) {
    if (issued_ - finished_ == log_.size()) {
        std::vector<Pending> larger(std::max<size_t>(64, 2 * log_.size()));
        for (uint64_t t = finished_ + 1; t <= issued_; ++t) {
            larger[static_cast<size_t>(t) % larger.size()] = pending(t);
        }
        log_ = std::move(larger);
    }
    pending(++issued_) = next;
}

void NcclQueue::advance() {
    // The kernels of an aborted communicator end as well, but not as they should.
    if (run_.has_failed()) return;
    while (has_pending() && has_passed(pending(finished_ + 1).done)) {
        const Pending& finished = pending(finished_ + 1);
        board_.done(*activity_, finished.operation);
        spare_events_.push_back(finished.ready);
        spare_events_.push_back(finished.done);
        ++finished_;
    }
}

bool NcclQueue::is_busy() {
    const std::lock_guard lock(run_.mutex());
    advance();
    return has_pending();
}

void NcclQueue::drain() const {
    cudaStreamSynchronize(stream_.handle());
}

Error NcclQueue::failure(ncclResult_t result, const char* call) const {
    const bool is_ours = result == ncclInvalidArgument || result == ncclInvalidUsage;
    return Error(is_ours ? ExitCode::internal : ExitCode::io,
                 std::string("communication: NCCL failed in '") + call + "' of " +
                     describe_group() + ": " + ncclGetErrorString(result) + ": " +
                     ncclGetLastError(comm_) +
                     "; see the other ranks' messages and the network's state, and run with "
                     "NCCL_DEBUG=WARN for more");
}

std::optional<Error> NcclQueue::find_trouble(Clock::time_point now) {
    if (!comm_) return std::nullopt;
    ncclResult_t result = ncclSuccess;
    ncclCommGetAsyncError(comm_, &result);
    if (result != ncclSuccess && result != ncclInProgress) {
        if (!failed_since_) failed_since_ = now;
        if (now - *failed_since_ >= run_.grace()) {
            return failure(result, has_pending() ? pending(finished_ + 1).operation.label : "");
        }
    }
    advance();
    if (!has_pending() || !has_passed(pending(finished_ + 1).ready)) {
        wait_.reset();
        return std::nullopt;
    }
    if (waiting_ticket_ != finished_ + 1) {
        waiting_ticket_ = finished_ + 1;
        waiting_since_ = now;
        wait_.reset();
    }
    if (!wait_) {
        wait_.emplace(&board_, activity_, pending(waiting_ticket_).operation.kind, waiting_ticket_);
    }
    if (now - waiting_since_ <= run_.timeout()) return std::nullopt;
    return run_.hang(describe(pending(waiting_ticket_), waiting_ticket_));
}

std::string NcclQueue::describe(const Pending& pending, uint64_t ticket) const {
    const Operation& operation = pending.operation;
    std::string text = name_of(queue_of(operation.kind)) + std::string(" ") +
                       std::to_string(ticket - connecting_operations_) + " (" +
                       trireme::describe(operation);
    if (operation.kind == OperationKind::send || operation.kind == OperationKind::recv) {
        text += operation.kind == OperationKind::send ? " to rank " : " from rank ";
        text += std::to_string(group_.world_ranks[static_cast<size_t>(operation.peer)]);
    }
    return text + ") of " + describe_group();
}

void NcclQueue::abort() {
    if (comm_) ncclCommAbort(comm_);
    comm_ = nullptr;
}

}  // namespace trireme
