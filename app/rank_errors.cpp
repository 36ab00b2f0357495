#include "app/rank_errors.h"

#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

namespace {

struct Failure {
    ExitCode code = ExitCode::internal;
    std::string message;
};

Failure describe(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const Error& error) {
        return {error.code(), error.what()};
    } catch (const std::bad_alloc&) {
        return {ExitCode::out_of_memory,
                "out of memory; use more ranks, a smaller batch.micro or a smaller model"};
    } catch (const std::exception& error) {
        return {ExitCode::internal, std::string(error.what()) + "; please report this"};
    }
}

// Prints what happened and returns the exit code.
int report(const World& world, const std::exception_ptr& exception) {
    const Failure failure = describe(exception);
    if (world.rank() != 0) {
        // Most failures meet all ranks alike: rank 0 reports them and ends the job meanwhile.
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
    Log(world.rank(), world.size()).error(failure.message);
    return static_cast<int>(failure.code);
}

}  // namespace

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
    const int code = report(*world, exception);
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
        const int code = report(world, exception);
        if (before_end) before_end(static_cast<ExitCode>(code), describe(exception).message);
        world.abort(code);
    }
}

}  // namespace trireme
