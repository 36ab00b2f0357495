#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/doorbell.h"
#include "parallel/group_members.h"
#include "parallel/thread/thread_group.h"

namespace trireme {

// All groups of one run of ranks as threads, and the thread that moves their data.
class ThreadRun final : public ThreadCarrier {
public:
    ThreadRun(int n_ranks, std::chrono::milliseconds timeout);
    ~ThreadRun() override;
    ThreadRun(const ThreadRun&) = delete;
    ThreadRun& operator=(const ThreadRun&) = delete;

    int size() const { return n_ranks_; }
    ActivityBoard& activity(int rank) override { return activities_[static_cast<size_t>(rank)]; }

    // Called by every rank; returns when all have. Null for a negative color.
    Channel* split(int rank, ColorAndKey mine, const std::string& name);

    void wake() override { doorbell_.ring(); }
    // Keeps the first error; all operations and splits fail with it.
    void give_up(const Error& error) override;

private:
    void run();
    void make_groups(const std::string& name);
    void fail_all(const Error& error);

    const int n_ranks_;
    const std::chrono::milliseconds timeout_;
    Doorbell doorbell_;
    std::vector<ActivityBoard> activities_;  // one a rank

    std::mutex mutex_;  // guards what follows, up to the thread
    std::condition_variable split_done_;
    std::vector<std::unique_ptr<ThreadGroup>> groups_;
    std::vector<ColorAndKey> colors_;       // of the split in progress
    std::vector<Channel*> channels_;        // of the last split, one a rank
    int arrived_ = 0;
    uint64_t splits_ = 0;
    std::optional<Error> error_;
    bool stopping_ = false;

    std::thread thread_;
};

}  // namespace trireme
