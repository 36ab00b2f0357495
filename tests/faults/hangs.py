#!/usr/bin/env python3
"""Stops (SIGSTOP) a random rank in each phase of a run.

    tests/faults/hangs.py [--rounds 2] [--limit 4] [--ranks 4] [--seed N]

Passes when each time the job ends with code 86 within the limit and 5 s, names the rank that was
stopped, and leaves no process behind.
"""

import argparse
import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
from running_job import Job, make_folder, seeded  # noqa: E402

PHASES = {
    "start-up": ["evaluation.interval=0"],
    "step": ["checkpoint.interval=1000000", "evaluation.interval=0"],
    "evaluation": ["evaluation.interval=1", "evaluation.batches=200",
                   "checkpoint.interval=1000000"],
    "save": ["checkpoint.interval=1", "checkpoint.async=false", "batch.global=4"],
}


def one_case(folder, phase, options, rng):
    job = Job(folder, options.ranks, *PHASES[phase], f"run.hang_limit={options.limit}",
              f"run.start_limit={options.limit if phase == 'start-up' else 60}",
              "mesh.tensor=2", "checkpoint.resume=never", "run.output=out-" + phase)
    if phase == "start-up":
        job.wait_for_ranks()
        time.sleep(rng.uniform(0.0, 0.4))
    else:
        job.wait_for("training ")
        time.sleep(rng.uniform(0.5, 2.0))
    ranks = job.find_ranks()
    victim = rng.randrange(options.ranks)
    os.kill(ranks[victim], signal.SIGSTOP)
    begin = time.monotonic()
    code = job.wait(options.limit + 30)
    seconds = time.monotonic() - begin
    job.wait_for_nobody()
    output = job.output()
    named = re.search(r"the run stands still: rank (\d+) on|"
                      r"stopped on this host: rank (\d+) \(", output)
    rank = int(named.group(1) or named.group(2)) if named else None
    where = re.search(r"Its last action: ([^;.]*)", output)
    print(f"  {phase:10s} rank {victim} stopped: code {code} after {seconds:.1f} s, named rank "
          f"{rank} ({where.group(1) if where else 'before its first step'})", flush=True)
    if code != 86 or rank != victim or seconds > options.limit + 5:
        print(output[-3000:])
        return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=4)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    rng = seeded(options.seed)
    failed = 0
    with make_folder() as folder:
        for _ in range(options.rounds):
            for phase in PHASES:
                failed += not one_case(folder, phase, options, rng)
    cases = options.rounds * len(PHASES)
    print(f"{cases - failed} of {cases} stopped ranks found and named within the limit and 5 s")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
