#include "parallel/event_queue.h"

#include <algorithm>
#include <utility>

#include "parallel/activity.h"

namespace trireme {

namespace {
// For the carrier to answer a time-out, before the waiting thread gives up on it too.
constexpr std::chrono::seconds kGrace{10};
}  // namespace

EventQueue::EventQueue(std::chrono::milliseconds timeout, OnTimeout on_timeout)
    : timeout_(timeout), on_timeout_(std::move(on_timeout)) {
    early_.reserve(64);
}

uint64_t EventQueue::issue(const char* label) {
    if (failed_.load(std::memory_order_relaxed)) {
        const std::lock_guard lock(mutex_);
        throw Error(*error_);
    }
    const uint64_t ticket = issued_.load(std::memory_order_relaxed) + 1;
    labels_[ticket % kLabels].store(label, std::memory_order_relaxed);
    issued_.store(ticket, std::memory_order_relaxed);
    return ticket;
}

void EventQueue::finish(uint64_t ticket) {
    {
        const std::lock_guard lock(mutex_);
        uint64_t completed = completed_.load(std::memory_order_relaxed);
        if (ticket != completed + 1) {
            early_.push_back(ticket);
        } else {
            ++completed;
            for (auto next = early_.begin(); next != early_.end();) {
                next = std::find(early_.begin(), early_.end(), completed + 1);
                if (next == early_.end()) break;
                *next = early_.back();
                early_.pop_back();
                ++completed;
                next = early_.begin();
            }
            completed_.store(completed, std::memory_order_release);
        }
    }
    changed_.notify_all();
}

void EventQueue::fail(const Error& error) {
    {
        const std::lock_guard lock(mutex_);
        if (error_) return;
        error_.emplace(error);
        failed_.store(true, std::memory_order_release);
    }
    changed_.notify_all();
}

void EventQueue::host_wait(uint64_t ticket) {
    if (completed_.load(std::memory_order_acquire) >= ticket) return;
    const ActivityBoard::Wait seen(board_, group_, kind_, ticket);
    std::unique_lock lock(mutex_);
    const auto settled = [&] { return finished(ticket) || error_.has_value(); };
    if (!changed_.wait_for(lock, timeout_, settled)) {
        const uint64_t oldest = completed_.load(std::memory_order_relaxed) + 1;
        const bool known = issued() < oldest + kLabels;
        const char* label = known ? labels_[oldest % kLabels].load(std::memory_order_relaxed) : "";
        lock.unlock();
        on_timeout_(oldest, label);
        lock.lock();
        if (!changed_.wait_for(lock, kGrace, settled)) {
            throw Error(ExitCode::hang, "communication: operation " + std::to_string(oldest) +
                                            " '" + label +
                                            "' waited too long and its carrier does not answer");
        }
    }
    if (finished(ticket)) return;
    throw Error(*error_);
}

bool EventQueue::done(uint64_t ticket) {
    if (completed_.load(std::memory_order_acquire) >= ticket) return true;
    const std::lock_guard lock(mutex_);
    if (finished(ticket)) return true;
    if (error_) throw Error(*error_);
    return false;
}

bool EventQueue::finished(uint64_t ticket) const {
    return completed_.load(std::memory_order_relaxed) >= ticket ||
           std::find(early_.begin(), early_.end(), ticket) != early_.end();
}

}  // namespace trireme
