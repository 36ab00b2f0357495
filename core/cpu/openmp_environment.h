#pragma once

namespace trireme {

// Starts this program anew with GOMP_SPINCOUNT set, unless it or OMP_WAIT_POLICY is: OpenMP's
// library reads them when the program is loaded. By default its idle threads spin for milliseconds,
// which on processors that others use as well takes them from the very threads that are waited for;
// the library itself spins as little as this only when it has more threads than processors.
// First in main. Returns where nothing is to be done, or it cannot be.
void prepare_openmp_environment(char** argv);

}  // namespace trireme
