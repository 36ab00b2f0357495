#include "parallel/thread/thread_group.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "parallel/rank_order_reduce.h"

namespace trireme {

// Transfers of one member to another, in order.
struct ThreadGroup::Pair {
    OperationQueue sends, receives;
    std::atomic<bool> issued{false};  // since the carrier's thread last looked
    Lane lane;
};

class ThreadGroup::Member final : public Channel {
public:
    Member(ThreadGroup& group, ThreadCarrier& carrier, std::string name, std::vector<int> ranks,
           int rank, std::chrono::milliseconds timeout, ActivityBoard& board)
        : Channel(std::move(name), std::move(ranks), rank, timeout, board), group_(group),
          carrier_(carrier) {}

    OperationQueue& collectives() { return collectives_; }
    using Channel::describe_group;

protected:
    void submit(const Operation& operation) override {
        if (operation.kind == OperationKind::send) {
            Pair& transfers = group_.pair(rank(), operation.peer);
            transfers.sends.push(operation);
            transfers.issued.store(true, std::memory_order_release);
        } else if (operation.kind == OperationKind::recv) {
            Pair& transfers = group_.pair(operation.peer, rank());
            transfers.receives.push(operation);
            transfers.issued.store(true, std::memory_order_release);
        } else {
            collectives_.push(operation);
            group_.collectives_issued_.store(true, std::memory_order_release);
        }
        carrier_.wake();
    }

    std::string who_is_missing(OperationKind queue, uint64_t ticket) override {
        if (queue == OperationKind::send) return "the receiving rank has not arrived";
        if (queue == OperationKind::recv) return "the sending rank has not arrived";
        std::string text = "not arrived:";
        for (const auto& member : group_.members_) {
            if (member->events_of(queue).issued() < ticket) {
                text += " rank ";
                text += std::to_string(world_rank(member->rank()));
            }
        }
        return text;
    }

    void give_up(const Error& error) override { carrier_.give_up(error); }

private:
    ThreadGroup& group_;
    ThreadCarrier& carrier_;
    OperationQueue collectives_;
};

ThreadGroup::ThreadGroup(std::string name, std::vector<int> ranks,
                         std::chrono::milliseconds timeout, ThreadCarrier& carrier)
    : name_(name), ready_(ranks.size()), sources_(ranks.size()) {
    for (int member = 0; member < static_cast<int>(ranks.size()); ++member) {
        members_.push_back(
            std::make_unique<Member>(*this, carrier, name, ranks, member, timeout,
                                     carrier.activity(ranks[static_cast<size_t>(member)])));
    }
    for (size_t i = 0; i < ranks.size() * ranks.size(); ++i) {
        pairs_.push_back(std::make_unique<Pair>());
    }
}

ThreadGroup::~ThreadGroup() = default;

Channel& ThreadGroup::channel(int member) { return *members_[static_cast<size_t>(member)]; }

ThreadGroup::Pair& ThreadGroup::pair(int from, int to) {
    return *pairs_[static_cast<size_t>(from) * members_.size() + static_cast<size_t>(to)];
}

void ThreadGroup::progress() {
    if (collectives_issued_.exchange(false)) lane_.run([this] { progress_collectives(); });
    const int size = static_cast<int>(members_.size());
    for (int from = 0; from < size; ++from) {
        for (int to = 0; to < size; ++to) {
            Pair& transfers = pair(from, to);
            if (!transfers.issued.exchange(false)) continue;
            transfers.lane.run([&] { progress_pair(from, to); });
        }
    }
}

void ThreadGroup::fail(const Error& error) {
    for (auto& member : members_) member->fail(error);
}

void ThreadGroup::join_lanes() {
    lane_.join();
    for (auto& p : pairs_) p->lane.join();
}

void ThreadGroup::progress_collectives() {
    for (;;) {
        for (size_t m = 0; m < members_.size(); ++m) {
            const Operation* operation = members_[m]->collectives().front();
            if (!operation) return;
            ready_[m] = *operation;
        }
        for (size_t m = 1; m < members_.size(); ++m) {
            if (same_collective(ready_[0], ready_[m])) continue;
            throw InternalError(
                "communication: collective " + std::to_string(ready_[0].ticket) + " of " +
                members_[0]->describe_group() + " differs: rank " +
                std::to_string(members_[0]->world_rank(0)) + " issued " + describe(ready_[0]) +
                ", rank " + std::to_string(members_[0]->world_rank(static_cast<int>(m))) +
                " issued " + describe(ready_[m]) +
                "; all members must issue the same collectives in the same order");
        }
        perform(ready_);
        for (size_t m = 0; m < members_.size(); ++m) {
            members_[m]->collectives().pop();
            members_[m]->finish(ready_[m]);
        }
    }
}

void ThreadGroup::perform(const std::vector<Operation>& operations) {
    const Operation& first = operations[0];
    const size_t bytes = first.bytes();
    const int size = static_cast<int>(operations.size());
    if (bytes == 0) return;
    switch (first.kind) {
        case OperationKind::all_reduce:
            for (size_t m = 0; m < operations.size(); ++m) sources_[m] = operations[m].output;
            reduce_in_rank_order(sources_.data(), size, first.elements, first.dtype, first.reduce,
                                 first.output);
            for (size_t m = 1; m < operations.size(); ++m) {
                std::memcpy(operations[m].output, first.output, bytes);
            }
            break;
        case OperationKind::all_gather:
            for (const Operation& to : operations) {
                std::byte* part = static_cast<std::byte*>(to.output);
                for (const Operation& from : operations) {
                    if (from.input != part) std::memcpy(part, from.input, bytes);
                    part += bytes;
                }
            }
            break;
        case OperationKind::reduce_scatter:
            for (size_t part = 0; part < operations.size(); ++part) {
                for (size_t m = 0; m < operations.size(); ++m) {
                    sources_[m] = static_cast<const std::byte*>(operations[m].input) + part * bytes;
                }
                reduce_in_rank_order(sources_.data(), size, first.elements, first.dtype,
                                     first.reduce, operations[part].output);
            }
            break;
        case OperationKind::all_to_all:
            for (size_t to = 0; to < operations.size(); ++to) {
                std::byte* block = static_cast<std::byte*>(operations[to].output);
                for (const Operation& from : operations) {
                    const std::byte* blocks = static_cast<const std::byte*>(from.input);
                    std::memcpy(block, blocks + to * bytes, bytes);
                    block += bytes;
                }
            }
            break;
        case OperationKind::broadcast: {
            const Operation& root = operations[static_cast<size_t>(first.peer)];
            for (const Operation& to : operations) {
                if (to.output != root.output) std::memcpy(to.output, root.output, bytes);
            }
            break;
        }
        case OperationKind::barrier:
        case OperationKind::send:
        case OperationKind::recv: break;
    }
}

void ThreadGroup::progress_pair(int from, int to) {
    Pair& transfers = pair(from, to);
    for (;;) {
        const Operation* sent = transfers.sends.front();
        const Operation* received = sent ? transfers.receives.front() : nullptr;
        if (!received) return;
        if (sent->dtype != received->dtype || sent->elements != received->elements) {
            const Member& any = *members_[0];
            throw InternalError("communication: a transfer of " + any.describe_group() +
                                " differs: rank " + std::to_string(any.world_rank(from)) +
                                " issued " + describe(*sent) + ", rank " +
                                std::to_string(any.world_rank(to)) + " issued " +
                                describe(*received));
        }
        if (sent->bytes() > 0) std::memcpy(received->output, sent->input, sent->bytes());
        members_[static_cast<size_t>(from)]->finish(*sent);
        members_[static_cast<size_t>(to)]->finish(*received);
        transfers.sends.pop();
        transfers.receives.pop();
    }
}

}  // namespace trireme
