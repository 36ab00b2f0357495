#include "parallel/activity.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace trireme {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

bool is_transfer(OperationKind kind) {
    return kind == OperationKind::send || kind == OperationKind::recv;
}

}  // namespace

void ActivityBoard::enter(Phase phase, int64_t step) {
    phase_.store(static_cast<int>(phase), relaxed);
    step_.store(step, relaxed);
    act(name_of(phase));
}

void ActivityBoard::act(const char* what, int64_t number) {
    action_.store(what, relaxed);
    action_number_.store(number, relaxed);
    tick();
}

std::string ActivityBoard::action() const {
    const int64_t number = action_number_.load(relaxed);
    std::string text = action_.load(relaxed);
    if (number >= 0) text += " " + std::to_string(number);
    return text;
}

ActivityGroup* ActivityBoard::add_group(const std::string& name, std::vector<int> world_ranks) {
    std::string members;
    for (const int rank : world_ranks) {
        members += (members.empty() ? '/' : ',') + std::to_string(rank);
    }
    const std::lock_guard lock(groups_mutex_);
    const auto taken = [&](const std::string& key) {
        return std::any_of(groups_.begin(), groups_.end(),
                           [&](const ActivityGroup& group) { return group.key == key; });
    };
    std::string key = name + members;
    for (int i = 1; taken(key); ++i) key = name + "~" + std::to_string(i) + members;
    ActivityGroup& group = groups_.emplace_back();
    group.key = std::move(key);
    group.ranks = std::move(world_ranks);
    return &group;
}

uint64_t ActivityBoard::issue(ActivityGroup& group, const Operation& operation) {
    const uint64_t number = next_record_.fetch_add(1, relaxed) + 1;
    Record& record = records_[number % kOperations];
    record.number.store(0, relaxed);
    record.group.store(&group, relaxed);
    record.kind.store(operation.kind, relaxed);
    record.reduce.store(operation.reduce, relaxed);
    record.dtype.store(operation.dtype, relaxed);
    record.peer.store(operation.peer, relaxed);
    record.elements.store(operation.elements, relaxed);
    record.label.store(operation.label, relaxed);
    record.ticket.store(operation.ticket, relaxed);
    record.issued_ns.store(now_ns(), relaxed);
    record.is_done.store(false, relaxed);
    record.number.store(number, relaxed);
    if (!is_transfer(operation.kind)) group.issued.store(operation.ticket, relaxed);
    tick();
    return number;
}

void ActivityBoard::done(ActivityGroup& group, const Operation& operation) {
    Record& record = records_[operation.record % kOperations];
    if (record.number.load(relaxed) == operation.record) record.is_done.store(true, relaxed);
    if (!is_transfer(operation.kind)) group.done.store(operation.ticket, relaxed);
    tick();
}

ActivityBoard::Wait::Wait(ActivityBoard* board, const ActivityGroup* group, OperationKind queue,
                          uint64_t ticket)
    : board_(board) {
    if (!board_) return;
    for (size_t i = 0; i < kWaits; ++i) {
        WaitSlot& slot = board_->waits_[i];
        if (slot.used.load(relaxed) || slot.used.exchange(true, relaxed)) continue;
        slot.group.store(group, relaxed);
        slot.queue.store(queue, relaxed);
        slot.ticket.store(ticket, relaxed);
        slot.is_main.store(board_->main_.load(relaxed) == std::this_thread::get_id(), relaxed);
        slot_ = i;
        return;
    }
}

ActivityBoard::Wait::~Wait() {
    if (slot_ == kWaits) return;
    board_->waits_[slot_].used.store(false, relaxed);
    board_->tick();
}

void ActivityBoard::add_operation(const Record& record, int64_t now, RankReport& to) {
    const ActivityGroup* group = record.group.load(relaxed);
    if (record.number.load(relaxed) == 0 || !group) return;
    Operation operation;
    operation.kind = record.kind.load(relaxed);
    operation.reduce = record.reduce.load(relaxed);
    operation.dtype = record.dtype.load(relaxed);
    operation.peer = record.peer.load(relaxed);
    operation.elements = record.elements.load(relaxed);
    operation.label = record.label.load(relaxed);
    ReportedOperation reported;
    reported.group = group->key;
    reported.queue = queue_of(operation.kind);
    reported.ticket = record.ticket.load(relaxed);
    reported.bytes = operation.kind == OperationKind::barrier ? 0 : operation.bytes();
    reported.is_done = record.is_done.load(relaxed);
    reported.age_seconds = static_cast<double>(now - record.issued_ns.load(relaxed)) * 1e-9;
    if (is_transfer(operation.kind) && operation.peer >= 0 &&
        operation.peer < static_cast<int>(group->ranks.size())) {
        reported.peer = group->ranks[static_cast<size_t>(operation.peer)];
    }
    reported.what = describe(operation);
    to.operations.push_back(std::move(reported));
}

RankReport ActivityBoard::report() const {
    // First, since it is what makes a group's name and members visible to this thread.
    const std::lock_guard lock(groups_mutex_);
    RankReport report;
    report.phase = phase();
    report.step = step();
    report.action = action();
    const int64_t now = now_ns();
    const uint64_t last = next_record_.load(relaxed);
    const uint64_t first = last > kOperations ? last - kOperations + 1 : 1;
    for (uint64_t number = first; number <= last; ++number) {
        const Record& record = records_[number % kOperations];
        if (record.number.load(relaxed) == number) add_operation(record, now, report);
    }
    for (const WaitSlot& slot : waits_) {
        const ActivityGroup* group = slot.group.load(relaxed);
        if (!slot.used.load(relaxed) || !group) continue;
        report.waits.push_back({group->key, queue_of(slot.queue.load(relaxed)),
                                slot.ticket.load(relaxed), slot.is_main.load(relaxed)});
    }
    for (const ActivityGroup& group : groups_) {
        report.groups.push_back(
            {group.key, group.ranks, group.issued.load(relaxed), group.done.load(relaxed)});
    }
    return report;
}

}  // namespace trireme
