#include "parallel/channel.h"

#include <utility>

#include "parallel/group_members.h"
#include "parallel/rank_report.h"

namespace trireme {

Channel::Channel(std::string name, std::vector<int> ranks, int rank,
                 std::chrono::milliseconds timeout, ActivityBoard& board)
    : name_(std::move(name)),
      ranks_(std::move(ranks)),
      rank_(rank),
      timeout_(timeout),
      board_(board),
      activity_(board.add_group(name_, ranks_)),
      collectives_(timeout,
                   [this](uint64_t ticket, const char* label) {
                       time_out(OperationKind::barrier, ticket, label);
                   }),
      sends_(timeout, [this](uint64_t ticket,
                             const char* label) { time_out(OperationKind::send, ticket, label); }),
      receives_(timeout, [this](uint64_t ticket, const char* label) {
          time_out(OperationKind::recv, ticket, label);
      }) {
    for (const OperationKind kind :
         {OperationKind::barrier, OperationKind::send, OperationKind::recv}) {
        events_of(kind).show_waits_on(&board_, activity_, kind);
    }
}

EventQueue& Channel::events_of(OperationKind kind) {
    if (kind == OperationKind::send) return sends_;
    if (kind == OperationKind::recv) return receives_;
    return collectives_;
}

Event Channel::issue(Operation operation) {
    EventQueue& queue = events_of(operation.kind);
    operation.ticket = queue.issue(operation.label);
    operation.record = board_.issue(*activity_, operation);
    submit(operation);
    return {&queue, operation.ticket};
}

void Channel::finish(const Operation& operation) {
    board_.done(*activity_, operation);
    events_of(operation.kind).finish(operation.ticket);
}

void Channel::fail(const Error& error) {
    collectives_.fail(error);
    sends_.fail(error);
    receives_.fail(error);
}

void Channel::put_waits_down_to(WaitAccount& account) {
    for (EventQueue* queue : {&collectives_, &sends_, &receives_}) {
        queue->put_waits_down_to(&account);
    }
}

std::string Channel::describe_group() const {
    return group_text(name_, ranks_);
}

void Channel::time_out(OperationKind queue, uint64_t ticket, const char* label) {
    give_up(Error(ExitCode::hang,
                  "communication hangs: rank " + std::to_string(world_rank(rank_)) +
                      " waited more than " +
                      std::to_string(static_cast<double>(timeout_.count()) / 1000.0) + " s for " +
                      name_of(queue_of(queue)) + " " + std::to_string(ticket) + " '" + label +
                      "' of " + describe_group() + "; " + who_is_missing(queue, ticket) +
                      ". Look in those ranks' logs for what they do instead"));
}

}  // namespace trireme
