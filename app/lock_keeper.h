#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "app/run_lock.h"

namespace trireme {

// Holds a run folder's lock and shows every five seconds that its owner lives. On a thread of its
// own: storage that stands still must not make the watchdog's look dead.
class LockKeeper {
public:
    // `lost` is called from the thread when the lock is not this process's any more.
    LockKeeper(std::unique_ptr<RunLock> lock, std::function<void()> lost);
    ~LockKeeper();  // gives the lock up
    LockKeeper(const LockKeeper&) = delete;
    LockKeeper& operator=(const LockKeeper&) = delete;

private:
    void run();

    std::unique_ptr<RunLock> lock_;
    const std::function<void()> lost_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ended_ = false;
    std::thread thread_;
};

}  // namespace trireme
