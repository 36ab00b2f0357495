#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/stream.h"
#include "parallel/operation.h"

namespace trireme {

class ActivityBoard;
struct ActivityGroup;

// The tickets of one queue of one rank: issued by the rank, finished by the carrier, waited for by
// whoever holds an event. A ticket is done when it is finished, whatever became of those before it:
// messages to several members need not end in the order of issue.
class EventQueue final : public EventSource {
public:
    // on_timeout is called by a waiting thread that has waited too long, with the operation's
    // ticket and label; it must make the carrier fail() this queue.
    using OnTimeout = std::function<void(uint64_t ticket, const char* label)>;
    EventQueue(std::chrono::milliseconds timeout, OnTimeout on_timeout);
    // Whoever blocks in host_wait is seen on the board; null: is not. Before the first wait.
    void show_waits_on(ActivityBoard* board, const ActivityGroup* group, OperationKind queue) {
        board_ = board;
        group_ = group;
        kind_ = queue;
    }

    // The issuing rank, one thread at a time. Throws what fail() was given.
    uint64_t issue(const char* label);
    uint64_t issued() const { return issued_.load(std::memory_order_relaxed); }

    // The carrier, in any order.
    void finish(uint64_t ticket);
    // Every ticket that is not done fails from now on, and so does every new call.
    void fail(const Error& error);

    void host_wait(uint64_t ticket) override;
    bool done(uint64_t ticket) override;  // throws when it has failed

private:
    bool finished(uint64_t ticket) const;  // with mutex_ held

    static constexpr size_t kLabels = 256;

    const std::chrono::milliseconds timeout_;
    const OnTimeout on_timeout_;
    ActivityBoard* board_ = nullptr;
    const ActivityGroup* group_ = nullptr;
    OperationKind kind_ = OperationKind::barrier;
    std::atomic<uint64_t> issued_{0};
    std::array<std::atomic<const char*>, kLabels> labels_{};  // of the latest tickets
    std::atomic<uint64_t> completed_{0};
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<uint64_t> early_;  // finished, but one issued earlier is not
    std::optional<Error> error_;
};

}  // namespace trireme
