#include "parallel/timed_network.h"

#include <algorithm>
#include <condition_variable>
#include <deque>

#include "core/error.h"
#include "core/timed_stream.h"
#include "parallel/self_communicator.h"

namespace trireme {

// Operations that follow one another, each of which needs all parties.
class TimedNetwork::Meeting {
public:
    explicit Meeting(int parties) : arrived_(static_cast<size_t>(parties)) {}

    // The party's next operation; returns its number.
    uint64_t arrive(int party, double at, double seconds) {
        const std::lock_guard lock(mutex_);
        const uint64_t number = arrived_[static_cast<size_t>(party)]++;
        if (number == operations_.size()) operations_.emplace_back();
        Operation& operation = operations_[number];
        operation.begin = std::max(operation.begin, at);
        if (++operation.parties == static_cast<int>(arrived_.size())) {
            // Parties come in order, so the one before is complete.
            const double before = number == 0 ? 0.0 : operations_[number - 1].end;
            operation.end = std::max(operation.begin, before) + seconds;
            complete_ = number + 1;
            changed_.notify_all();
        }
        return number;
    }

    double end_of(uint64_t number) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return complete_ > number || is_closed_; });
        if (complete_ <= number) throw InternalError("another rank of the simulated run failed");
        return operations_[number].end;
    }

    void close() {
        const std::lock_guard lock(mutex_);
        is_closed_ = true;
        changed_.notify_all();
    }

private:
    struct Operation {
        int parties = 0;
        double begin = 0.0, end = 0.0;
    };

    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_closed_ = false;
    uint64_t complete_ = 0;          // so many operations are
    std::vector<uint64_t> arrived_;  // of each party: how many operations it has come to
    std::deque<Operation> operations_;
};

// One played rank's end of a group.
class TimedNetwork::Group final : public Communicator {
public:
    Group(TimedNetwork& network, const PlannedRanks::Group& group)
        : network_(network),
          number_(group.number),
          name_(group.name),
          rank_(group.rank),
          members_(group.members),
          ring_(network.links_.around(group.members)),
          to_all_(network.links_.among(group.members)) {
        int party = 0, parties = 0;
        for (const int member : members_) {
            if (!network.is_played(member)) continue;
            if (member == members_[static_cast<size_t>(rank_)]) party = parties;
            ++parties;
        }
        collectives_.attach(network.meeting({{number_, members_.front()}, {-1, -1}}, parties),
                            party);
    }

    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(members_.size()); }
    const std::string& name() const override { return name_; }

    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp, const char*) override {
        return collective(Collective::all_reduce, after, buffer);
    }
    Event all_gather(Stream& after, const Tensor&, const Tensor& whole, const char*) override {
        return collective(Collective::all_gather, after, whole);
    }
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor&, const char*) override {
        return collective(Collective::reduce_scatter, after, whole);
    }
    Event all_to_all(Stream& after, const Tensor& from, const Tensor&, const char*) override {
        return collective(Collective::all_to_all, after, from);
    }
    Event broadcast(Stream& after, const Tensor& buffer, int, const char*) override {
        return collective(Collective::broadcast, after, buffer);
    }
    Event send(Stream& after, const Tensor& buffer, int peer, const char*) override {
        return transfer(after, buffer, rank_, peer);
    }
    Event recv(Stream& after, const Tensor& buffer, int peer, const char*) override {
        return transfer(after, buffer, peer, rank_);
    }
    void barrier() override {}

    void put_waits_down_to(WaitAccount& account) override {
        account_ = &account;
        collectives_.put_waits_down_to(&account);
        for (auto& [ends, queue] : transfers_) queue.put_waits_down_to(&account);
    }

private:
    class Queue final : public TimedSource {
    public:
        void attach(Meeting& meeting, int party) {
            meeting_ = &meeting;
            party_ = party;
        }
        bool is_attached() const { return meeting_ != nullptr; }
        Event issue(Stream& after, double seconds) {
            const double now = static_cast<TimedStream&>(after).now();
            return {this, meeting_->arrive(party_, now, seconds)};
        }
        double end_of(uint64_t ticket) override { return meeting_->end_of(ticket); }

    private:
        Meeting* meeting_ = nullptr;
        int party_ = 0;
    };

    Event collective(Collective kind, Stream& after, const Tensor& buffer) {
        const double bytes = static_cast<double>(buffer.bytes());
        const LinkSpeed& link = kind == Collective::all_to_all ? to_all_ : ring_;
        return collectives_.issue(after, collective_seconds(kind, size(), bytes, link));
    }

    Event transfer(Stream& after, const Tensor& buffer, int from, int to) {
        Queue& queue = transfers_[{from, to}];
        if (!queue.is_attached()) {
            queue.attach(network_.meeting({{number_, members_.front()}, {from, to}}, 2),
                         rank_ == to ? 1 : 0);
            queue.put_waits_down_to(account_);
        }
        const LinkSpeed link = network_.links_.between(members_[static_cast<size_t>(from)],
                                                       members_[static_cast<size_t>(to)]);
        return queue.issue(after, link.latency_seconds +
                                      static_cast<double>(buffer.bytes()) / link.bytes_per_second);
    }

    TimedNetwork& network_;
    const size_t number_;
    const std::string name_;
    const int rank_;
    const std::vector<int> members_;
    const LinkSpeed ring_, to_all_;
    WaitAccount* account_ = nullptr;
    Queue collectives_;
    std::map<std::pair<int, int>, Queue> transfers_;  // by sender and receiver, ranks of the group
};

TimedNetwork::TimedNetwork(const ClusterLinks& links, std::vector<int> played)
    : links_(links), played_(std::move(played)) {}

TimedNetwork::~TimedNetwork() = default;

bool TimedNetwork::is_played(int rank) const {
    return std::find(played_.begin(), played_.end(), rank) != played_.end();
}

std::unique_ptr<Communicator> TimedNetwork::make_group(const PlannedRanks::Group& group) {
    if (group.members.size() == 1) return std::make_unique<SelfCommunicator>(group.name);
    return std::make_unique<Group>(*this, group);
}

TimedNetwork::Meeting& TimedNetwork::meeting(const MeetingKey& key, int parties) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Meeting>& place = meetings_[key];
    if (!place) place = std::make_unique<Meeting>(parties);
    if (is_closed_) place->close();
    return *place;
}

void TimedNetwork::close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    for (auto& [key, meeting] : meetings_) meeting->close();
}

}  // namespace trireme
