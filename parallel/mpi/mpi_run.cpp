#include "parallel/mpi/mpi_run.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "core/service_thread.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// How the owner of MPI waits for messages: a few looks at once, some more between which others may
// run, then naps that grow with the time waited, so that they add little to it. There are often
// more ranks than cores.
constexpr int kLooks = 4;
constexpr int kYields = 200;
constexpr microseconds kShortestNap{20};
constexpr microseconds kLongestNap{500};
constexpr int kNapShare = 8;

#ifdef OPEN_MPI
constexpr bool kIsOpenMpi = true;
#else
constexpr bool kIsOpenMpi = false;
#endif

constexpr std::chrono::seconds kAbortGrace{5};
constexpr std::chrono::seconds kDrainLimit{5};

// Whether one process may read another's memory; some containers forbid it, and Open MPI would
// then complain on every rank.
bool single_copy_works() {
    int from = 1;
    int to = 0;
    const iovec source{&from, sizeof from};
    const iovec target{&to, sizeof to};
    return process_vm_readv(getpid(), &target, 1, &source, 1, 0) ==
           static_cast<ssize_t>(sizeof from);
}

// Open MPI's settings, where the user has not chosen.
void set_defaults() {
    const int keep = 0;
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", keep);
    setenv("OMPI_MCA_btl_base_warn_component_unused", "0", keep);
    if (!single_copy_works()) setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", keep);
}

}  // namespace

MpiRun::MpiRun(const Launcher& launcher, std::chrono::milliseconds timeout, bool rendezvous)
    : launcher_(launcher),
      timeout_(timeout),
      rendezvous_(rendezvous),
      exceptions_at_start_(std::uncaught_exceptions()) {
    set_defaults();
    std::promise<void> started;
    std::future<void> start = started.get_future();
    thread_ = start_service_thread("mpi", [this, &started] { run(started); });
    try {
        start.get();
    } catch (...) {
        thread_.join();
        throw;
    }
}

MpiRun::~MpiRun() {
    bool failed = std::uncaught_exceptions() > exceptions_at_start_;
    {
        const std::lock_guard lock(mutex_);
        failed = failed || error_;
    }
    end_.store(failed ? End::leave : End::finalize);
    wake();
    thread_.join();
}

Channel& MpiRun::add_channel(int group_number, const std::string& name, std::vector<int> ranks,
                             int rank) {
    const MpiLane lane{comm_, 2 * group_number, 2 * group_number + 1, rendezvous_};
    TRIREME_CHECK(lane.transfer_tag <= highest_tag_, "fewer groups than MPI has tags for");
    auto channel = std::make_unique<MpiChannel>(*this, lane, name, std::move(ranks), rank, timeout_,
                                                activity_);
    const std::lock_guard lock(mutex_);
    if (error_) throw Error(*error_);
    channels_.push_back(std::move(channel));
    changes_.fetch_add(1);
    return *channels_.back();
}

void MpiRun::give_up(const Error& error) {
    {
        const std::lock_guard lock(mutex_);
        if (!error_) error_.emplace(error);
        changes_.fetch_add(1);
    }
    wake();
}

void MpiRun::abort(int exit_code) {
    abort_code_.store(exit_code);
    wake();
    std::this_thread::sleep_for(kAbortGrace);
    std::_Exit(exit_code);
}

void MpiRun::run(std::promise<void>& started) {
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    try {
        start_mpi();
    } catch (...) {
        started.set_exception(std::current_exception());
        return;
    }
    started.set_value();
    serve();
}

void MpiRun::start_mpi() {
    if (const std::string problem = launch_problem(launcher_, kIsOpenMpi); !problem.empty()) {
        throw Error(ExitCode::config, problem);
    }
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (launcher_.processes > 0 && launcher_.processes != size_) {
        MPI_Finalize();
        throw Error(ExitCode::config,
                    launcher_.name + " started " + std::to_string(launcher_.processes) +
                        " processes, but MPI sees " + std::to_string(size_) +
                        "; start with the mpirun of the MPI this program was built with, or with "
                        "srun and a matching --mpi");
    }
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    int* highest_tag = nullptr;
    int found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &highest_tag, &found);
    highest_tag_ = found ? *highest_tag : 32767;
    MPI_Comm host = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
              "MPI_Comm_split_type");
    MPI_Comm_rank(host, &local_rank_);
    MPI_Comm_size(host, &local_size_);
    MPI_Comm_free(&host);
    // In a container of its own a process looks like the only one on its host, but the launcher
    // knows which of the host's devices it is to take.
    if (launcher_.local_rank >= 0) local_rank_ = launcher_.local_rank;
}

void MpiRun::serve() {
    std::vector<MpiChannel*> channels;
    int seen = 0;
    int looks = 0;
    bool failed = false;
    Clock::time_point idle_since{};
    while (end_.load() == End::none) {
        if (const int code = abort_code_.load(); code >= 0) MPI_Abort(MPI_COMM_WORLD, code);
        if (const int changes = changes_.load(); changes != seen) {
            seen = changes;
            const std::lock_guard lock(mutex_);
            channels.clear();
            for (auto& channel : channels_) {
                channels.push_back(channel.get());
                if (error_) channel->fail(*error_);
            }
            failed = error_.has_value();
        }
        try {
            if (!failed && progress(channels)) {
                looks = 0;
                continue;
            }
        } catch (...) {
            give_up(as_error(std::current_exception(), "while communicating"));
            continue;
        }
        if (failed || all_idle(channels)) {
            doorbell_.wait();
            looks = 0;
        } else if (++looks <= kLooks) {
            idle_since = Clock::now();
        } else if (looks <= kYields) {
            sched_yield();
        } else {
            const auto waited = std::chrono::duration_cast<microseconds>(Clock::now() - idle_since);
            doorbell_.wait_for(std::clamp(waited / kNapShare, kShortestNap, kLongestNap));
        }
    }
    if (end_.load() == End::finalize) drain(channels);
}

bool MpiRun::progress(std::vector<MpiChannel*>& channels) {
    bool moved = false;
    for (MpiChannel* channel : channels) moved = channel->progress() || moved;
    return moved;
}

bool MpiRun::all_idle(std::vector<MpiChannel*>& channels) {
    return std::all_of(channels.begin(), channels.end(),
                       [](MpiChannel* channel) { return channel->idle(); });
}

// Sends whose events nobody waited for still have to leave. What then remains will never complete,
// and finalizing would block.
void MpiRun::drain(std::vector<MpiChannel*>& channels) {
    const Clock::time_point limit = Clock::now() + kDrainLimit;
    try {
        while (!all_idle(channels)) {
            if (Clock::now() > limit) return;
            if (!progress(channels)) std::this_thread::sleep_for(kShortestNap);
        }
        MPI_Comm_free(&comm_);
        MPI_Finalize();
    } catch (const Error&) {
        return;
    }
}

}  // namespace trireme
