#include "app/rank_errors.h"

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <thread>

#include "app/stop_request.h"
#include "core/error.h"
#include "core/log.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

namespace {

// How long it may take, on a busy machine, until a failure of rank 0 has ended the others.
constexpr std::chrono::milliseconds kRankZeroEndsJob{500}, kLauncherEndsJob{3000};

const char* const kMemoryAdvice =
    "\nLess is needed with a smaller batch.micro, data.sequence_length or model, with "
    "data_parallel.zero: 2 or 3, with recompute: selective or full, or with more processes in "
    "mesh.tensor, mesh.context, mesh.pipeline or mesh.data; or close other programs. trireme plan "
    "tells before a run what each process will hold";

Error describe(const std::exception_ptr& exception) {
    const Error error = as_error(exception);
    if (error.code() != ExitCode::out_of_memory || error.is_advised()) return error;
    return error.retold(error.what() + std::string(kMemoryAdvice));
}

// Most failures meet all ranks alike: rank 0 reports them and ends the job while the others wait.
// True when the launcher has begun to end this rank, which a train command outlives for a second
// because it catches that signal.
bool is_ended_meanwhile(std::chrono::milliseconds limit) {
    using std::chrono::milliseconds;
    const bool was_signalled = StopRequest::is_signalled();
    for (milliseconds waited{0}; waited < limit; waited += milliseconds(10)) {
        std::this_thread::sleep_for(milliseconds(10));
        if (!was_signalled && StopRequest::is_signalled()) return true;
    }
    return false;
}

// Prints what happened and returns the exit code.
int report(int rank, int size, const std::exception_ptr& exception,
           std::chrono::milliseconds limit = kRankZeroEndsJob) {
    const Error error = describe(exception);
    if (rank <= 0 || !is_ended_meanwhile(limit)) Log(rank, size).error(error.what());
    return static_cast<int>(error.code());
}

}  // namespace

int check_before_joining(const std::function<void(int world_size)>& check) {
    const Launcher launcher = find_launcher();
    if (launcher.kind != Launcher::Kind::open_mpi || launcher.processes < 2) return 0;
    try {
        check(launcher.processes);
        return static_cast<int>(ExitCode::ok);
    } catch (...) {
        return report(launcher.rank, launcher.processes, std::current_exception(),
                      kLauncherEndsJob);
    }
}

int run_as_rank(const std::function<void(World&)>& body) {
    std::unique_ptr<World> world;
    try {
        world = make_process_world();
    } catch (const Error& error) {
        // How it was launched is wrong for all ranks alike: one says so.
        if (error.code() != ExitCode::config || find_launcher().rank <= 0) throw;
        return static_cast<int>(error.code());
    }
    std::exception_ptr exception;
    try {
        body(*world);
        return static_cast<int>(ExitCode::ok);
    } catch (...) {
        exception = std::current_exception();
    }
    const int code = report(world->rank(), world->size(), exception);
    if (world->size() > 1) world->abort(code);
    return code;
}

void end_ranks_on_failure(
    World& world, const std::function<void()>& part,
    const std::function<void(ExitCode, const std::string& message)>& before_end) {
    try {
        part();
    } catch (...) {
        if (world.size() == 1) throw;
        const std::exception_ptr exception = std::current_exception();
        const int code = report(world.rank(), world.size(), exception);
        if (before_end) before_end(static_cast<ExitCode>(code), describe(exception).what());
        world.abort(code);
    }
}

}  // namespace trireme
