#pragma once

#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace trireme {

// Takes signals in place of the thread that makes it and of all threads that one starts from then
// on, whose handlers then run on a stack with nothing else on it. For oneDNN's sake: kernels that
// it generates (2.6, f32 products with AVX2) keep data below the stack pointer, beyond what a
// signal leaves alone, so that any handler on their stack overwrites it.
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
