#!/usr/bin/env python3
"""Kills a random rank or mpirun at random times and starts again, until the last step.

    tests/faults/kills.py [--kills 20] [--steps 400] [--ranks 4] [--seed N]

Passes when every run that got to the last step has the same parameters and moments, bit for bit,
as one that was never disturbed. TRIREME names the program, default build/cpu/bin/trireme.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from running_job import Job, make_folder, newest_checkpoint, seeded, tensors_of  # noqa: E402


def wait_after_kill(job):
    """The exit code; None where only mpirun is left and does not end, which Open MPI 4.1 does now
    and then when a rank dies while it is being started."""
    for _ in range(120):
        try:
            code = job.process.wait(1)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            if job.processes() == [job.process.pid]:
                time.sleep(5)
                if job.process.poll() is None:
                    job.end()
                    return None
    return job.wait(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    rng = seeded(options.seed)
    begin = time.monotonic()
    with make_folder() as folder:
        settings = [f"run.steps={options.steps}", "mesh.tensor=2", "evaluation.interval=7",
                    "evaluation.batches=1"]
        undisturbed = Job(folder, options.ranks, *settings, "run.output=undisturbed")
        code = undisturbed.wait(300)
        length = time.monotonic() - begin
        if code != 0:
            sys.exit(f"the undisturbed run ended with {code}:\n{undisturbed.output()}")
        expected = tensors_of(newest_checkpoint(Path(folder) / "undisturbed"))
        print(f"undisturbed run: {options.steps} steps in {length:.1f} s, "
              f"{len(expected)} tensor pieces")

        kills = completed = starts = stuck = crashed = 0
        while kills < options.kills or completed == 0:
            job = Job(folder, options.ranks, *settings, "run.output=out")
            starts += 1
            if kills < options.kills:
                moment = rng.uniform(0.0, max(0.6 * length, 1.0))
                whom = rng.randrange(options.ranks + 1)
                time.sleep(moment)
                ranks = dict(job.find_ranks())
                victim = job.process.pid if whom == options.ranks else ranks.get(whom)
                if victim is not None and job.process.poll() is None:
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
                    job.find_ranks()
            code = wait_after_kill(job)
            if code is None:
                stuck += 1
                continue
            job.wait_for_nobody()
            if code == 139 and "PMIx_server_finalize" in job.output():
                crashed += 1  # mpirun itself, at its end
                continue
            if code != 0:
                if code not in (137, 1, 86, 143):
                    sys.exit(f"exit code {code} after a kill:\n{job.output()}")
                continue
            newest = newest_checkpoint(Path(folder) / "out")
            if newest.name != f"step-{options.steps:08d}" or tensors_of(newest) != expected:
                sys.exit(f"{newest} is not what the undisturbed run has")
            completed += 1
            print(f"{kills} kills, {completed} runs complete", flush=True)
            shutil.rmtree(Path(folder) / "out")
        print(f"{kills} kills, {starts} starts, {completed} runs reached step {options.steps}, "
              f"all bit-equal to the undisturbed run ({time.monotonic() - begin:.0f} s; mpirun "
              f"stayed behind alone {stuck} times, crashed itself {crashed} times)")


if __name__ == "__main__":
    main()
