#pragma once

namespace trireme {

// The processors of this machine, and how its ranks share them.

// Compute threads of one rank: `asked`, or where that is 0 this process's processors divided by
// the ranks on the machine, at least one.
int cpu_threads_per_rank(int asked, int processors, int local_ranks);

// The part of its threads' full speed that a rank gets when all ranks on the machine compute:
// below 1 where they have more threads than there are processors. `processors`: those this rank may
// run on; where the machine has enough of them for each rank to have as many, they are its own.
double cpu_share(int threads, int processors, int local_ranks, int machine_processors);

// That of this process; `asked_threads` as in cpu_threads_per_rank.
double cpu_share_of_rank(int asked_threads, int local_ranks);

// Processors that this process may keep busy: those that it may run on, and no more than the quota
// of its control groups.
int available_processors();

}  // namespace trireme
