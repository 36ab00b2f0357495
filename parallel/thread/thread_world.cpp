#include "parallel/thread/thread_world.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/queued_communicator.h"
#include "parallel/self_communicator.h"
#include "parallel/thread/thread_run.h"

namespace trireme {

namespace {

class ThreadWorld final : public World {
public:
    ThreadWorld(ThreadRun& run, int rank) : run_(run), rank_(rank) {}

    int rank() const override { return rank_; }
    int size() const override { return run_.size(); }
    int local_rank() const override { return rank_; }
    int local_size() const override { return run_.size(); }

    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse) override {
        Channel* channel = run_.split(rank_, {color, key}, name);
        if (!channel) return nullptr;
        if (channel->size() == 1) return std::make_unique<SelfCommunicator>(name);
        return std::make_unique<QueuedCommunicator>(*channel);
    }

    ActivityBoard& activity() override { return run_.activity(rank_); }

    // Ends the ranks, not the process they share.
    [[noreturn]] void abort(int exit_code) override {
        const Error error(static_cast<ExitCode>(exit_code), "rank " + std::to_string(rank_) +
                                                                " ended the run with code " +
                                                                std::to_string(exit_code));
        run_.give_up(error);
        throw error;
    }

private:
    ThreadRun& run_;
    const int rank_;
};

// The first rank's exception, for the caller and, as an Error, for the other ranks.
class FirstException {
public:
    void keep(int rank, ThreadRun& run) {
        {
            const std::lock_guard lock(mutex_);
            if (!exception_) exception_ = std::current_exception();
        }
        const std::string prefix = "rank " + std::to_string(rank) + " failed: ";
        try {
            throw;
        } catch (const Error& error) {
            run.give_up(error.retold(prefix + error.what()));
        } catch (const std::exception& error) {
            run.give_up(InternalError(prefix + error.what()));
        } catch (...) {
            run.give_up(InternalError(prefix + "unknown exception"));
        }
    }
    void rethrow() {
        if (exception_) std::rethrow_exception(exception_);
    }

private:
    std::mutex mutex_;
    std::exception_ptr exception_;
};

}  // namespace

void run_thread_ranks(int n_ranks, const std::function<void(World&)>& body) {
    run_thread_ranks(n_ranks, body, std::chrono::minutes(2));
}

void run_thread_ranks(int n_ranks, const std::function<void(World&)>& body,
                      std::chrono::milliseconds timeout) {
    TRIREME_CHECK(n_ranks >= 1, "at least one rank");
    FirstException first;
    {
        ThreadRun run(n_ranks, timeout);
        std::vector<std::thread> ranks;
        for (int rank = 0; rank < n_ranks; ++rank) {
            ranks.emplace_back([&, rank] {
                try {
                    ThreadWorld world(run, rank);
                    body(world);
                } catch (...) {
                    first.keep(rank, run);
                }
            });
        }
        for (std::thread& thread : ranks) thread.join();
    }
    first.rethrow();
}

}  // namespace trireme
