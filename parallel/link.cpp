#include "parallel/link.h"

#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "core/service_thread.h"

namespace trireme {

Link::Link() : exceptions_at_start_(std::uncaught_exceptions()) {
    thread_ = start_service_thread("link", [this] { run(); });
}

Link::~Link() {
    {
        const std::lock_guard lock(mutex_);
        is_ending_ = true;
        if (std::uncaught_exceptions() > exceptions_at_start_) held_.clear();
    }
    issued_or_ending_.notify_all();
    thread_.join();
}

Event Link::issue(Seconds duration, std::function<Event()> hand_on) {
    const std::lock_guard lock(mutex_);
    rethrow_failure();
    free_at_ =
        std::max(free_at_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(duration);
    held_.push_back({free_at_, std::move(hand_on)});
    issued_or_ending_.notify_all();
    return {this, ++issued_};
}

void Link::flush() {
    std::unique_lock lock(mutex_);
    handed_on_or_failed_.wait(lock, [&] { return handed_on_ == issued_ || failure_; });
    rethrow_failure();
}

void Link::host_wait(uint64_t ticket) {
    Event event;
    {
        std::unique_lock lock(mutex_);
        handed_on_or_failed_.wait(lock, [&] { return handed_on_ >= ticket || failure_; });
        if (handed_on_ < ticket) rethrow_failure();
        event = event_of(ticket);
    }
    if (event.source) event.source->host_wait(event.ticket);
}

bool Link::done(uint64_t ticket) {
    Event event;
    {
        const std::lock_guard lock(mutex_);
        if (handed_on_ < ticket) {
            rethrow_failure();
            return false;
        }
        event = event_of(ticket);
    }
    return !event.source || event.source->done(event.ticket);
}

Event Link::event_of(uint64_t ticket) const {
    const uint64_t oldest = handed_on_ > kEvents ? handed_on_ - kEvents + 1 : 1;
    return events_[std::max(ticket, oldest) % kEvents];
}

void Link::rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
}

void Link::run() {
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    std::unique_lock lock(mutex_);
    for (;;) {
        if (held_.empty()) {
            if (is_ending_) return;
            issued_or_ending_.wait(lock);
            continue;
        }
        if (const Clock::time_point due = held_.front().due; Clock::now() < due) {
            issued_or_ending_.wait_until(lock, due);
            continue;  // it may have been dropped
        }
        const std::function<Event()> hand_on = std::move(held_.front().hand_on);
        held_.pop_front();
        lock.unlock();
        Event event;
        std::exception_ptr failure;
        try {
            event = hand_on();
        } catch (...) {
            failure = std::current_exception();
        }
        lock.lock();
        if (failure) {
            failure_ = failure;
            held_.clear();
        } else {
            events_[++handed_on_ % kEvents] = event;
        }
        handed_on_or_failed_.notify_all();
    }
}

}  // namespace trireme
