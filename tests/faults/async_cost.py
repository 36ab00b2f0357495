#!/usr/bin/env python3
"""A save in the background on storage that takes 5 s for every fsync: how long the steps after it
take, and whether what is saved is the state at the step and not what training made of it since.

Two processes train a small model. Each fsync below the checkpoints folder is delayed from outside.
Links of 40 ms between the processes make most of a step a wait, so that other work on the machine
hardly shows and what holds the step up does; --latency 0 leaves only compute, for a quiet machine.
Writing takes its processor time of whatever runs beside it: with --latency 0 choose --sequences a
step so that the step is long against the writing of a few megabytes, as real ones are.
"""

import glob
import json
import os
import re
import statistics
import subprocess
import time

from support import MPIRUN, Results, Work, arguments, mpi_environment

CONFIG = """
run: {name: async, output: out, steps: STEPS}
device: {threads: 1}
model: {family: llama, layers: 3, hidden: 128, heads: 4, vocab_size: 257, max_sequence_length: 128}
data: {train: [{path: data/text}]}
batch: {global: SEQUENCES, micro: 2}
mesh: {data: 2}
schedule: {name: constant}
checkpoint: {interval: EVERY, keep: 9}
logging: {interval: 1}
testing: {links: LINKS}
"""


def train(given, work, name, every, steps, delay=None, more=()):
    settings = []
    if delay is not None:
        settings = ["env", "LD_PRELOAD=" + given.injector,
                    "FAULT_FOLDER=" + os.path.abspath(work / name) + "/checkpoints",
                    f"FAULT_DELAY={delay}"]
    links = f"[{{axis: data, latency_ms: {given.latency}}}]" if given.latency > 0 else "[]"
    with open(work / "run.yaml", "w") as out:
        out.write(CONFIG.replace("STEPS", str(steps)).replace("EVERY", str(every))
                  .replace("LINKS", links).replace("SEQUENCES", str(given.sequences)))
    # The folder by its whole name, so that the injector sees whose calls they are.
    command = MPIRUN + ["-n", "2"] + settings + [
        given.bin + "/trireme", "train", "run.yaml", "--set",
        "run.output=" + os.path.abspath(work / name), *more]
    # The time between two steps' lines holds all there is: the step, the copy, any wait.
    process = subprocess.Popen(command, cwd=work.path, env=mpi_environment(), text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    output, lines_at = [], {}
    for line in process.stderr:
        output.append(line)
        step = re.match(r"step (\d+)/", line)
        if step and "valid" not in line:
            lines_at[int(step.group(1))] = time.monotonic()
    if process.wait() != 0:
        raise SystemExit("".join(output)[-2000:])
    seconds = {step: at - lines_at[step - 1] for step, at in lines_at.items() if step > 1}
    text = "".join(output)
    copied = [float(n) for n in re.findall(r"([0-9.]+) s copied", text)]
    written = [float(n) for n in re.findall(r"([0-9.]+) s written", text)]
    return seconds, copied, written


def checksums(given, folder):
    """By tensor and piece, from the manifest, which is checked against the files first."""
    verify = subprocess.run([given.bin + "/trireme", "inspect", folder, "--verify"],
                            capture_output=True, text=True)
    if verify.returncode != 0:
        raise SystemExit(verify.stderr + verify.stdout)
    with open(folder + "/manifest.json") as manifest:
        tensors = json.load(manifest)["tensors"]
    return {(t["name"], str(p["begin"])): p["crc32c"] for t in tensors for p in t["pieces"]}


def main():
    given = arguments(__doc__, saves=7, delay=5.0, latency=40.0, sequences=4)
    results = Results(f"Saving in the background, {given.delay:g} s a fsync")
    with Work(given.work) as work:
        with open(work / "text.txt", "w") as out:
            out.writelines(f"line {i * i} of a small text\n" for i in range(20000))
        subprocess.run([given.bin + "/trireme", "prepare", "--input", "text.txt", "--output",
                        "data/text"], cwd=work.path, check=True, capture_output=True)
        # Saves take four delays, so that six are enough between them.
        usual = statistics.median(list(train(given, work, "first", 99, 40)[0].values())[5:])
        every = int(6 * given.delay / usual) + 1
        steps = every * given.saves + every // 2
        seconds, copied, written = train(given, work, "slow", every, steps, given.delay)
        # Steps vary by more than the bound on a busy machine. So each is compared with the ten
        # before it, and medians are taken; the same for steps halfway between saves shows the noise.
        def ratios(offset):
            for save in range(every, steps - every // 2 + 1, every):
                before = statistics.median(seconds[save + offset - i] for i in range(1, 11))
                yield seconds[save + offset] / before

        usual = statistics.median(seconds.values())
        ratio = statistics.median(ratios(1))
        note = f"with the save's pause {ratio:.3f} of the ten before, {statistics.median(ratios(every // 2 - 1)):.3f} " \
               f"for steps halfway between saves; a step takes {usual:.3f} s, {given.saves} saves"
        results.row("the step that follows is at most 10% longer", int(ratio <= 1.1), 1, note)
        # Otherwise the next save has waited, and the step was not one beside a save.
        between = every * usual
        note = f"{max(written):.1f} s of writing, {between:.1f} s between saves, training stood " \
               f"still for {1e3 * statistics.median(copied):.1f} ms each time"
        slow = sum(w > 2 * given.delay for w in written)
        results.row("storage was slow", int(slow == len(written) and max(written) < between), 1,
                    note)

        # The same run, waiting for each save: the same checksums of every tensor.
        train(given, work, "now", every, steps, None, ["checkpoint.async=false"])
        folders = sorted(glob.glob(work / "slow/checkpoints/step-*"))
        same = sum(checksums(given, f) == checksums(given, f.replace("/slow/", "/now/"))
                   for f in folders)
        results.row("saved is what was there at the step", same, len(folders))
        results.row("all saves are there", len(folders), given.saves + 1)
    results.finish()


if __name__ == "__main__":
    main()
