#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/operation.h"
#include "parallel/rank_report.h"

namespace trireme {

// One group as its member sees it: how far its collectives have come. Lives as long as the board.
struct ActivityGroup {
    std::string key;         // the same for all members: "data/0,2", "data~1/0,2" for a second one
    std::vector<int> ranks;  // in the world
    std::atomic<uint64_t> issued{0};
    std::atomic<uint64_t> done{0};
};

// What one rank is doing, for its watchdog to read at any time: the trainer says what it is at, the
// communicators what they issue, complete and wait for. Writing costs a few relaxed stores, takes
// no lock and allocates nothing. Relaxed everywhere: a thread that writes here must learn nothing
// about another's work, else ThreadSanitizer could not see a wait that was forgotten. So a record
// that is read while it is written may be a mixture; one that stands still is right.
class ActivityBoard {
public:
    static constexpr size_t kOperations = 64;
    static constexpr size_t kWaits = 8;

    ActivityBoard() = default;
    ActivityBoard(const ActivityBoard&) = delete;
    ActivityBoard& operator=(const ActivityBoard&) = delete;

    // The trainer. Strings have static lifetime. Numbers below zero are left out of the text.
    void enter(Phase phase, int64_t step);
    void act(const char* what, int64_t number = -1);
    // The thread that trains; what it waits for counts before what others wait for.
    void set_main_thread() { main_ = std::this_thread::get_id(); }

    // Communicators. Any thread. add_group is not for use in a step.
    ActivityGroup* add_group(const std::string& name, std::vector<int> world_ranks);
    // Returns the record's number, for done().
    uint64_t issue(ActivityGroup& group, const Operation& operation);
    void done(ActivityGroup& group, const Operation& operation);

    // While it lives, the calling thread waits for this operation.
    class Wait {
    public:
        Wait(ActivityBoard* board, const ActivityGroup* group, OperationKind queue,
             uint64_t ticket);
        ~Wait();
        Wait(const Wait&) = delete;
        Wait& operator=(const Wait&) = delete;

    private:
        ActivityBoard* board_ = nullptr;
        size_t slot_ = kWaits;  // none was free
    };

    // The watchdog. Changes whenever the rank does anything.
    uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
    Phase phase() const { return static_cast<Phase>(phase_.load(std::memory_order_relaxed)); }
    int64_t step() const { return step_.load(std::memory_order_relaxed); }
    std::string action() const;
    // Everything but who and where the rank is.
    RankReport report() const;

private:
    struct Record {
        std::atomic<uint64_t> number{0};  // 0: none, or being written
        std::atomic<const ActivityGroup*> group{nullptr};
        std::atomic<OperationKind> kind{OperationKind::barrier};
        std::atomic<ReduceOp> reduce{ReduceOp::sum};
        std::atomic<DType> dtype{DType::u8};
        std::atomic<int> peer{-1};
        std::atomic<int64_t> elements{0};
        std::atomic<const char*> label{""};
        std::atomic<uint64_t> ticket{0};
        std::atomic<int64_t> issued_ns{0};
        std::atomic<bool> is_done{false};
    };
    struct WaitSlot {
        std::atomic<bool> used{false};
        std::atomic<bool> is_main{false};
        std::atomic<const ActivityGroup*> group{nullptr};
        std::atomic<OperationKind> queue{OperationKind::barrier};
        std::atomic<uint64_t> ticket{0};
    };

    void tick() { progress_.fetch_add(1, std::memory_order_relaxed); }
    static void add_operation(const Record& record, int64_t now_ns, RankReport& to);

    alignas(64) std::atomic<uint64_t> progress_{0};
    std::atomic<int> phase_{0};
    std::atomic<int64_t> step_{0};
    std::atomic<const char*> action_{"starting"};
    std::atomic<int64_t> action_number_{-1};
    std::atomic<std::thread::id> main_{};

    alignas(64) std::atomic<uint64_t> next_record_{0};
    std::array<Record, kOperations> records_;
    std::array<WaitSlot, kWaits> waits_;

    mutable std::mutex groups_mutex_;
    std::deque<ActivityGroup> groups_;
};

}  // namespace trireme
