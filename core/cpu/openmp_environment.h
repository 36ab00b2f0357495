#pragma once

#include <string>

namespace trireme {

// Whether at least as many others want to run as there are processors, by the text of /proc/stat.
// This process is among those that it counts.
bool are_processors_busy(const std::string& stat, int processors);

// Where the processors are busy, starts this program anew with GOMP_SPINCOUNT set, unless it or
// OMP_WAIT_POLICY is: OpenMP's library reads them when the program is loaded. By default its idle
// threads spin for milliseconds, which takes shared processors from the very threads that are
// waited for. On processors of one's own spinning is the faster way.
// First in main. Returns where nothing is to be done, or it cannot be.
void prepare_openmp_environment(char** argv);

}  // namespace trireme
