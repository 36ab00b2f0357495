#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace trireme {

class Trace;

// What a stream's standing still is put down to, such as a mesh axis.
struct WaitAccount {
    const char* name = "";   // of its spans in a trace
    double seconds = 0.0;    // so far; on a GPU as of the last synchronize(), and it must live till
                             // then
    Trace* trace = nullptr;  // where longer waits are recorded; on a GPU none are. May be null
};

// Something that completes numbered pieces of work in order (a stream, a communication queue).
class EventSource {
public:
    virtual ~EventSource() = default;
    // Blocks the calling thread until the work with this ticket is done; of a stream, all before it
    // too.
    // Rethrows the error of a failed operation.
    virtual void host_wait(uint64_t ticket) = 0;
    virtual bool done(uint64_t ticket) = 0;
    // The back end's own event (a cudaEvent_t), or null where there is none (CPU).
    virtual void* native_event(uint64_t) { return nullptr; }

    // Every wait of a stream for this source is put down to the account; null: to none.
    void put_waits_down_to(WaitAccount* account) { account_ = account; }
    WaitAccount* wait_account() const { return account_; }

private:
    WaitAccount* account_ = nullptr;
};

// A point in a source's order. A value: cheap to copy, owns nothing, and must not outlive its
// source. The default event is complete.
struct Event {
    EventSource* source = nullptr;
    uint64_t ticket = 0;
};

// Work that a stream has recorded, to be done any number of times: on the same memory, with the
// same numbers. Must not outlive its stream.
class RecordedWork {
public:
    virtual ~RecordedWork() = default;
    // Enqueues all of it on its stream.
    virtual void enqueue() = 0;
};

// An in-order queue of compute on one device. On the CPU work runs inline, so an operation is
// done when its call returns; on a GPU the call only enqueues.
class Stream {
public:
    virtual ~Stream() = default;
    // Marks the end of the work enqueued so far.
    virtual Event record() = 0;
    // Work enqueued after this call starts only when the event is complete. On the CPU the calling
    // thread blocks; on a GPU it does not. The time that the stream stood still is put down to the
    // account of the event's source.
    virtual void wait(const Event& event) = 0;
    // Copies within the device's memory; the ranges do not overlap.
    virtual void copy(void* to, const void* from, size_t bytes) = 0;
    // Blocks the calling thread until all enqueued work is done.
    virtual void synchronize() = 0;
    // Records what `enqueue` puts on this stream, instead of doing it. It may not allocate, wait,
    // or be waited for, so everything in it must have been done before. Null where a stream does
    // not record, without calling it; throws Error when the work cannot be recorded, of which then
    // nothing has been done.
    virtual std::unique_ptr<RecordedWork> record_work(const std::function<void()>& /*enqueue*/) {
        return nullptr;
    }
};

}  // namespace trireme
