#include "core/service_thread.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace trireme {

namespace {

// Blocks all signals while in scope; a thread that is started meanwhile keeps them blocked.
class SignalBlock {
public:
    SignalBlock() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalBlock(const SignalBlock&) = delete;
    SignalBlock& operator=(const SignalBlock&) = delete;

private:
    sigset_t before_{};
};

}  // namespace

std::thread start_service_thread(const char* name, std::function<void()> body) {
    const SignalBlock block;
    return std::thread([name, body = std::move(body)] {
        pthread_setname_np(pthread_self(), name);
        body();
    });
}

}  // namespace trireme
