#include "app/lock_keeper.h"

#include <chrono>
#include <utility>

#include "core/service_thread.h"

namespace trireme {

namespace {

constexpr std::chrono::seconds kBetweenBeats{5};

}  // namespace

LockKeeper::LockKeeper(std::unique_ptr<RunLock> lock, std::function<void()> lost)
    : lock_(std::move(lock)), lost_(std::move(lost)) {
    thread_ = start_service_thread("lock keeper", [this] { run(); });
}

LockKeeper::~LockKeeper() {
    {
        const std::lock_guard held(mutex_);
        ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void LockKeeper::run() {
    std::unique_lock held(mutex_);
    while (!changed_.wait_for(held, kBetweenBeats, [this] { return ended_; })) {
        held.unlock();
        if (!lock_->beat()) return lost_();
        held.lock();
    }
}

}  // namespace trireme
