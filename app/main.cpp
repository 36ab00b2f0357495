#include <fcntl.h>
#include <sys/prctl.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>

#include "app/command_line.h"
#include "app/standard_output.h"
#include "core/cpu/openmp_environment.h"
#include "core/cuda_backend.h"
#include "core/error.h"

namespace {

// The place of a standard descriptor that is closed would go to the next file that is opened, and
// what is written for people would end up in it.
void open_standard_descriptors() {
    for (int descriptor = 0; descriptor < 3; ++descriptor) {
        if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    using trireme::ExitCode;
    open_standard_descriptors();
    // Not that of /proc/self/exe, by which it may have been started anew.
    prctl(PR_SET_NAME, program_invocation_short_name);
    trireme::prepare_openmp_environment(argv);
    trireme::prepare_cuda_environment();
    // A write beyond the limit of a file's size (ulimit -f) is then an error like a full disk.
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        const int code = trireme::run_command_line(argc, argv);
        if (code == 0) trireme::check_standard_output();
        return code;
    } catch (...) {
        const trireme::Error error = trireme::as_error(std::current_exception());
        std::fprintf(stderr, "trireme: error: %s\n", error.what());
        return static_cast<int>(error.code());
    }
}
