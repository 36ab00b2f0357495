#pragma once

#include <string_view>

#include "core/descriptor.h"

namespace trireme {

// While it lives, what is printed to the standard output goes to the standard error. oneDNN and
// NCCL print there when their environment variables ask for it (ONEDNN_VERBOSE, NCCL_DEBUG), and
// would be mixed with what another program reads. One at a time, and print() from one thread.
class LibraryOutput {
public:
    LibraryOutput();
    ~LibraryOutput();
    LibraryOutput(const LibraryOutput&) = delete;
    LibraryOutput& operator=(const LibraryOutput&) = delete;

    // To the standard output nevertheless, at once.
    void print(std::string_view text);

private:
    Descriptor standard_output_;
};

// Throws Error (io) when something that was printed did not get out, whichever call met the full
// disk or the closed pipe.
void check_standard_output();

}  // namespace trireme
