#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/doorbell.h"
#include "parallel/mpi/launcher.h"
#include "parallel/mpi/mpi_channel.h"

namespace trireme {

// MPI and the one thread that makes every call of it.
class MpiRun {
public:
    // Starts MPI and returns when it runs.
    MpiRun(const Launcher& launcher, std::chrono::milliseconds timeout, bool rendezvous);
    // Finalizes MPI, unless an exception is passing or the run has failed.
    ~MpiRun();
    MpiRun(const MpiRun&) = delete;
    MpiRun& operator=(const MpiRun&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    int local_rank() const { return local_rank_; }
    int local_size() const { return local_size_; }
    ActivityBoard& activity() { return activity_; }

    // group_number: the same for all members, different for groups that share members.
    Channel& add_channel(int group_number, const std::string& name, std::vector<int> ranks,
                         int rank);

    void wake() { doorbell_.ring(); }
    // Fails all operations of this process with the first error given.
    void give_up(const Error& error);
    [[noreturn]] void abort(int exit_code);

private:
    enum class End { none, finalize, leave };

    void run(std::promise<void>& started);
    void start_mpi();
    void serve();
    bool progress(std::vector<MpiChannel*>& channels);
    bool all_idle(std::vector<MpiChannel*>& channels);
    void drain(std::vector<MpiChannel*>& channels);

    const Launcher launcher_;
    const std::chrono::milliseconds timeout_;
    const bool rendezvous_;
    const int exceptions_at_start_;
    int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1, highest_tag_ = 0;
    MPI_Comm comm_ = MPI_COMM_NULL;
    Doorbell doorbell_;
    ActivityBoard activity_;

    std::mutex mutex_;  // guards the next two
    std::vector<std::unique_ptr<MpiChannel>> channels_;
    std::optional<Error> error_;
    std::atomic<int> changes_{0};  // of what the mutex guards
    std::atomic<End> end_{End::none};
    std::atomic<int> abort_code_{-1};

    std::thread thread_;
};

}  // namespace trireme
