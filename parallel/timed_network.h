#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "parallel/cluster_links.h"
#include "parallel/planned_world.h"

namespace trireme {

// The network of a run that does not take place, on whose groups operations take the time that they
// would. Some ranks are played, each on a thread and a TimedDevice of its own; every other rank is
// taken to do what a played one does at the same time: in a group with one played member nobody is
// waited for. An operation begins when all played ranks that take part have come to it and the one
// before it in its queue is over. It takes no compute away.
//
// Waiting for an operation's end blocks the thread until the other ranks have issued it too; after
// close() it throws instead.
class TimedNetwork {
public:
    // played: world ranks.
    TimedNetwork(const ClusterLinks& links, std::vector<int> played);
    ~TimedNetwork();

    // For PlannedRanks::world_of a played rank. This network outlives the group.
    std::unique_ptr<Communicator> make_group(const PlannedRanks::Group& group);
    // Ends all waits, those to come too: a rank has failed.
    void close();

private:
    class Meeting;
    class Group;
    // The split that made the group, and its first member; of a transfer also sender and receiver,
    // else -1.
    using MeetingKey = std::pair<std::pair<size_t, int>, std::pair<int, int>>;

    bool is_played(int rank) const;
    Meeting& meeting(const MeetingKey& key, int parties);

    const ClusterLinks links_;
    const std::vector<int> played_;
    std::mutex mutex_;
    bool is_closed_ = false;
    std::map<MeetingKey, std::unique_ptr<Meeting>> meetings_;
};

}  // namespace trireme
