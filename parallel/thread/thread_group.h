#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "parallel/channel.h"
#include "parallel/operation_queue.h"
#include "parallel/thread/lane.h"

namespace trireme {

// What a group needs of the threads' carrier. Any thread; neither call blocks on other ranks.
class ThreadCarrier {
public:
    virtual ~ThreadCarrier() = default;
    virtual void wake() = 0;
    virtual void give_up(const Error& error) = 0;
    virtual ActivityBoard& activity(int rank) = 0;  // of the rank with this number in the world
};

// A group whose members are threads of this process. Members issue; the carrier's thread moves the
// data once all members of a collective, or both sides of a transfer, are there.
class ThreadGroup {
public:
    ThreadGroup(std::string name, std::vector<int> ranks, std::chrono::milliseconds timeout,
                ThreadCarrier& carrier);
    ~ThreadGroup();

    Channel& channel(int member);

    // The carrier's thread. Does all that is ready. Throws Error (internal) when members issued
    // operations that do not match.
    void progress();
    // The carrier's thread. Afterwards no buffer is touched any more.
    void fail(const Error& error);
    void join_lanes();

private:
    class Member;
    struct Pair;

    Pair& pair(int from, int to);
    void progress_collectives();
    void progress_pair(int from, int to);
    void perform(const std::vector<Operation>& operations);

    const std::string name_;
    std::vector<std::unique_ptr<Member>> members_;
    std::vector<std::unique_ptr<Pair>> pairs_;  // [from * size + to]
    std::vector<Operation> ready_;              // one a member
    std::vector<const void*> sources_;
    std::atomic<bool> collectives_issued_{false};  // since the carrier's thread last looked
    Lane lane_;                                    // of the collectives
};

}  // namespace trireme
