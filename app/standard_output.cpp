#include "app/standard_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "core/error.h"

namespace trireme {

LibraryOutput::LibraryOutput() : standard_output_(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)) {
    std::fflush(stdout);
    if (standard_output_.is_open()) ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

LibraryOutput::~LibraryOutput() {
    std::fflush(stdout);
    if (standard_output_.is_open()) ::dup2(standard_output_.number(), STDOUT_FILENO);
}

void LibraryOutput::print(std::string_view text) {
    std::fflush(stdout);
    if (standard_output_.is_open()) ::dup2(standard_output_.number(), STDOUT_FILENO);
    // Through stdio, whose error stays for check_standard_output().
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    if (standard_output_.is_open()) ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

void check_standard_output() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
    throw Error(ExitCode::io,
                "the standard output takes no more, so what was printed is incomplete; "
                "check the disk or the program it goes to");
}

}  // namespace trireme
