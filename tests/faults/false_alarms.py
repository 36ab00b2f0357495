#!/usr/bin/env python3
"""Trains with more ranks than cores for some minutes; no alarm may be raised.

    tests/faults/false_alarms.py [--minutes 1] [--ranks 8] [--cores 0,1] [--limit auto]
"""

import argparse
import sys
import time

sys.dont_write_bytecode = True
from running_job import Job, make_folder  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--limit", default="auto")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    with make_folder() as folder:
        begin = time.monotonic()
        job = Job(folder, options.ranks, "mesh.tensor=2", "mesh.pipeline=2", "run.steps=300000",
                  "evaluation.interval=50", "checkpoint.interval=100",
                  f"run.time_limit={seconds}", f"run.hang_limit={options.limit}",
                  cores=options.cores)
        code = job.wait(seconds + 120)
        job.wait_for_nobody()
        output = job.output()
        print(output[-600:])
        print(f"code {code} after {time.monotonic() - begin:.0f} s (75 is right)")
        sys.exit(code != 75 or "stands still" in output or "is gone" in output)


if __name__ == "__main__":
    main()
