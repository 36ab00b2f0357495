#!/usr/bin/env python3
"""Asks a run to stop at random moments of all phases, in each way there is.

    tests/faults/stops.py [--requests 12] [--ranks 4] [--seed N]

Passes when each run ends with code 75 and leaves a valid checkpoint of the step it names.
"""

import argparse
import collections
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from running_job import Job, make_folder, newest_checkpoint, seeded, trireme_program  # noqa: E402

PHASES = {
    "start-up": ["evaluation.interval=0"],
    "step": ["evaluation.interval=0", "checkpoint.interval=1000000", "batch.global=256"],
    "evaluation": ["evaluation.interval=3", "evaluation.batches=400",
                   "checkpoint.interval=1000000"],
    "save": ["checkpoint.interval=1"],
}
WAYS = ["SIGTERM to one rank", "SIGUSR1 to all", "STOP file", "time limit"]


def one_request(folder, phase, way, options, rng):
    settings = [*PHASES[phase], "mesh.tensor=2"]
    delay = rng.uniform(0.0, 0.4) if phase == "start-up" else rng.uniform(0.2, 2.5)
    if way == "time limit":
        settings.append(f"run.time_limit={0.5 + delay:.2f}")
    job = Job(folder, options.ranks, *settings)
    if way != "time limit":
        if phase == "start-up":
            ranks = job.wait_for_ranks()
        else:
            job.wait_for("training ")
            ranks = job.find_ranks()
        time.sleep(delay)
        if way == "SIGTERM to one rank":
            os.kill(ranks[rng.randrange(options.ranks)], signal.SIGTERM)
        elif way == "SIGUSR1 to all":
            os.kill(job.process.pid, signal.SIGUSR1)  # mpirun hands it on
        else:
            (Path(folder) / "out").mkdir(exist_ok=True)
            (Path(folder) / "out/STOP").touch()
    begin = time.monotonic()
    code = job.wait(60)
    seconds = time.monotonic() - begin
    job.wait_for_nobody()
    output = job.output()
    said = re.search(r"stopped on request: (.*)\. The checkpoint of step (\d+) ", output)
    newest = newest_checkpoint(Path(folder) / "out")
    good = code == 75 and said and newest and newest.name == f"step-{int(said.group(2)):08d}"
    good = good and not (Path(folder) / "out/STOP").exists()
    if good:
        check = subprocess.run([trireme_program(), "inspect", str(newest), "--verify"],
                               capture_output=True, check=False)
        good = check.returncode == 0
    if not good:
        print(f"  FAILED: {phase}, {way}: code {code}, {newest}\n{output[-3000:]}", flush=True)
    return good, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    rng = seeded(options.seed)
    good = collections.Counter()
    slowest = 0.0
    with make_folder() as folder:
        for i in range(options.requests):
            phase = list(PHASES)[i % len(PHASES)]
            way = WAYS[(i + i // len(PHASES)) % len(WAYS)]
            ok, seconds = one_request(folder, phase, way, options, rng)
            good[phase] += ok
            if way != "time limit":
                slowest = max(slowest, seconds)
    total = sum(good.values())
    print(f"{total} of {options.requests} requests ended with code 75 and a valid checkpoint "
          f"({', '.join(f'{phase} {n}' for phase, n in good.items())}); slowest {slowest:.1f} s")
    sys.exit(total != options.requests)


if __name__ == "__main__":
    main()
