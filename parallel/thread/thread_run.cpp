#include "parallel/thread/thread_run.h"

#include <algorithm>

namespace trireme {

ThreadRun::ThreadRun(int n_ranks, std::chrono::milliseconds timeout)
    : n_ranks_(n_ranks), timeout_(timeout), activities_(static_cast<size_t>(n_ranks)),
      colors_(static_cast<size_t>(n_ranks)), channels_(static_cast<size_t>(n_ranks)),
      thread_([this] { run(); }) {}

ThreadRun::~ThreadRun() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake();
    thread_.join();
}

Channel* ThreadRun::split(int rank, ColorAndKey mine, const std::string& name) {
    std::unique_lock lock(mutex_);
    if (error_) throw Error(*error_);
    colors_[static_cast<size_t>(rank)] = mine;
    const uint64_t number = splits_;
    if (++arrived_ == n_ranks_) {
        make_groups(name);
        arrived_ = 0;
        ++splits_;
        split_done_.notify_all();
    } else if (!split_done_.wait_for(lock, timeout_,
                                     [&] { return splits_ != number || error_; })) {
        const Error error(ExitCode::hang, "communication hangs: rank " + std::to_string(rank) +
                                              " waited too long for all ranks to make group '" +
                                              name + "'; " + std::to_string(arrived_) + " of " +
                                              std::to_string(n_ranks_) + " are there");
        lock.unlock();
        give_up(error);
        throw error;
    }
    if (splits_ == number) throw Error(*error_);
    return channels_[static_cast<size_t>(rank)];
}

void ThreadRun::make_groups(const std::string& name) {
    std::fill(channels_.begin(), channels_.end(), nullptr);
    for (size_t rank = 0; rank < channels_.size(); ++rank) {
        const int color = colors_[rank].color;
        if (color < 0 || channels_[rank]) continue;
        const std::vector<int> members = group_members(colors_, color);
        groups_.push_back(std::make_unique<ThreadGroup>(name, members, timeout_, *this));
        for (size_t m = 0; m < members.size(); ++m) {
            channels_[static_cast<size_t>(members[m])] =
                &groups_.back()->channel(static_cast<int>(m));
        }
    }
}

void ThreadRun::give_up(const Error& error) {
    {
        const std::lock_guard lock(mutex_);
        if (!error_) error_.emplace(error);
    }
    split_done_.notify_all();
    wake();
}

// Fails what is waiting only now that this thread will touch no buffer any more: the waiting
// ranks free theirs as they unwind.
void ThreadRun::fail_all(const Error& error) {
    for (auto& group : groups_) group->join_lanes();
    for (auto& group : groups_) group->fail(error);
}

void ThreadRun::run() {
    for (;;) {
        doorbell_.wait();
        const std::lock_guard lock(mutex_);
        if (!error_) {
            try {
                for (auto& group : groups_) group->progress();
            } catch (...) {
                error_.emplace(as_error(std::current_exception(), "while communicating"));
                split_done_.notify_all();
            }
        }
        if (error_) fail_all(*error_);
        if (stopping_) break;
    }
    for (auto& group : groups_) group->join_lanes();
}

}  // namespace trireme
