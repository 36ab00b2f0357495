#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "app/command_line.h"
#include "core/cpu/openmp_environment.h"
#include "core/cuda_backend.h"
#include "core/error.h"

int main(int argc, char** argv) {
    using trireme::ExitCode;
    trireme::prepare_openmp_environment(argv);
    trireme::prepare_cuda_environment();
    // A write beyond the limit of a file's size (ulimit -f) is then an error like a full disk.
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        return trireme::run_command_line(argc, argv);
    } catch (const trireme::Error& error) {
        std::fprintf(stderr, "trireme: error: %s\n", error.what());
        return static_cast<int>(error.code());
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "trireme: error: out of memory\n");
        return static_cast<int>(ExitCode::out_of_memory);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "trireme: internal error: %s; please report this\n", error.what());
        return static_cast<int>(ExitCode::internal);
    }
}
