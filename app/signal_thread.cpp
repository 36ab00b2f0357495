#include "app/signal_thread.h"

#include "core/service_thread.h"

namespace trireme {

SignalThread::SignalThread(const sigset_t& signals) {
    thread_ = start_service_thread("signals", [this, signals] {
        pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ends_; });
    });
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

SignalThread::~SignalThread() {
    {
        const std::lock_guard lock(mutex_);
        ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace trireme
