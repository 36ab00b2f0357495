#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/stream.h"

namespace trireme {

// One queue of operations on a link of known speed. Each operation is handed on, to what really
// performs it, when the link would have carried it. If all members of a group hold their part of a
// collective back like this, the group completes it exactly when a link that starts with the last
// arrival would, one operation after the other: both are the same maximum of sums.
class Link final : public EventSource {
public:
    using Seconds = std::chrono::duration<double>;

    Link();
    // Waits until all has been handed on. While an exception passes, drops what has not been.
    ~Link() override;
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    // hand_on issues the operation and returns its event; called by the link's own thread.
    Event issue(Seconds duration, std::function<Event()> hand_on);
    // Blocks until all that was issued has been handed on.
    void flush();

    void host_wait(uint64_t ticket) override;
    bool done(uint64_t ticket) override;

private:
    using Clock = std::chrono::steady_clock;
    // The last this many events are kept. Waiting for an older one waits for the oldest of these,
    // which is later but never wrong.
    static constexpr uint64_t kEvents = 4096;
    struct Held {
        Clock::time_point due;
        std::function<Event()> hand_on;
    };

    void run();
    Event event_of(uint64_t ticket) const;  // with the mutex held
    void rethrow_failure() const;

    const int exceptions_at_start_;
    std::mutex mutex_;  // guards what follows, up to the thread
    std::condition_variable issued_or_ending_, handed_on_or_failed_;
    std::deque<Held> held_;
    std::array<Event, kEvents> events_{};
    uint64_t issued_ = 0;
    uint64_t handed_on_ = 0;
    Clock::time_point free_at_{};
    std::exception_ptr failure_;
    bool is_ending_ = false;

    std::thread thread_;
};

}  // namespace trireme
