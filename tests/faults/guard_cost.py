#!/usr/bin/env python3
"""What the guards cost: steps with all of them on against steps with all off, in turn.

    tests/faults/guard_cost.py [--pairs 9] [--steps 40] [--ranks 2] [--zero 1]

On: gradients looked at before each sum, spikes, and every 20 steps replicas compared and a
checkpoint with checksums saved beside the training. Off: none of it, and no checkpoints. Prints the
ratio of the median steps, and fails when it is above 1.02; and that of the mean steps, in which the
saves show, far more often than anybody saves. The watchdog runs in both. TRIREME names the program,
default build/cpu/bin/trireme.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from running_job import make_folder, trireme_program  # noqa: E402

MODEL = """run: {name: cost, output: out, steps: 12, max_restarts: 0}
device: {threads: 1}
model: {family: gpt2, layers: 6, hidden: 384, heads: 6, vocab_size: 2048, max_sequence_length: 256}
data: {train: [{path: data/text}]}
batch: {global: 8, micro: 2}
checkpoint: {interval: 0, resume: never}
logging: {tensorboard: false, interval: 1}
"""
OFF = ["numerics.find_origin=false", "numerics.on_spike=ignore", "numerics.check_replicas=0"]
ON = ["numerics.check_replicas=20", "checkpoint.interval=20"]


def step_seconds(folder, options, keys):
    """The median and the mean of a run's steps but the first two."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(options.ranks),
               trireme_program(), "train", "cost.yaml"]
    for key in [f"run.steps={options.steps}", f"data_parallel.zero={options.zero}", *keys]:
        command += ["--set", key]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)
    records = [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]
    steps = [r["step_seconds"] for r in records[2:] if "step_seconds" in r]
    return statistics.median(steps), statistics.mean(steps)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--zero", type=int, default=1)
    options = parser.parse_args()
    with make_folder() as name:
        folder = Path(name)
        (folder / "cost.yaml").write_text(MODEL)
        on, off = [], []
        for pair in range(options.pairs):
            # The order within a pair alternates: what drifts hits both alike.
            for is_on in ([True, False], [False, True])[pair % 2]:
                (on if is_on else off).append(step_seconds(folder, options, ON if is_on else OFF))
        print(f"{options.ranks} ranks, ZeRO-{options.zero}, {options.pairs} pairs")
        for name, at in ("median step", 0), ("mean step", 1):
            ratios = sorted(a[at] / b[at] for a, b in zip(on, off))
            print(f"{name}: on {statistics.median(a[at] for a in on):.4f} s, "
                  f"off {statistics.median(b[at] for b in off):.4f} s; median of the paired ratios "
                  f"{statistics.median(ratios):.4f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})")
        sys.exit(0 if statistics.median(a[0] / b[0] for a, b in zip(on, off)) <= 1.02 else 1)


main()
