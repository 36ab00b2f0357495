#pragma once

#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace trireme {

// Takes signals in place of the thread that makes it and of all threads and processes that one
// starts from then on. For oneDNN's sake: f32 products that it generates (2.6, with AVX2) put the
// stack pointer at the beginning of a block of the heap, so that a handler in the middle of one
// overwrites what lies below. A signal sent to one of those threads alone (raise) waits for ever.
class SignalThread {
public:
    // Throws std::system_error when no thread can be started.
    explicit SignalThread(const sigset_t& signals);
    ~SignalThread();  // the calling thread takes them again; others never do
    SignalThread(const SignalThread&) = delete;
    SignalThread& operator=(const SignalThread&) = delete;

private:
    sigset_t before_{};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ends_ = false;
    std::thread thread_;
};

}  // namespace trireme
