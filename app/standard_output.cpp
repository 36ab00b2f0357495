#include "app/standard_output.h"

#include <cstdio>

#include "core/error.h"

namespace trireme {

void check_standard_output() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
    throw Error(ExitCode::io,
                "the standard output takes no more, so what was printed is incomplete; "
                "check the disk or the program it goes to");
}

}  // namespace trireme
