"""A small training run under mpirun for the fault cases, and ways to harm it from outside."""

import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """run: {name: fault, output: out, steps: 100000, max_restarts: 0}
device: {threads: 1}
model: {family: llama, layers: 2, hidden: 48, heads: 4, vocab_size: 257, max_sequence_length: 16}
data:
  train: [{path: data/text}]
  valid: [{path: data/text}]
batch: {global: 8, micro: 2}
checkpoint: {interval: 5, keep: 2}
evaluation: {interval: 0}
schedule: {name: constant}
logging: {tensorboard: false, interval: 1000}
"""


def trireme_program():
    return os.environ.get("TRIREME", str(ROOT / "build/cpu/bin/trireme"))


def make_folder():
    """A temporary folder with a dataset and the configuration; removed with the returned object."""
    folder = tempfile.TemporaryDirectory(prefix="trireme-faults-")
    at = Path(folder.name)
    text = "".join(f"line {i * i} of a small text\n" for i in range(400))
    (at / "corpus.txt").write_text(text)
    (at / "run.yaml").write_text(CONFIG)
    subprocess.run([trireme_program(), "prepare", "--input", "corpus.txt", "--output", "data/text"],
                   cwd=at, check=True, capture_output=True)
    return folder


def proc_text(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def is_running(pid):
    stat = proc_text(pid, "stat")
    return ")" in stat and stat[stat.rfind(")") + 2] not in "ZX"


class Job:
    """trireme train on `ranks` processes; arguments are those after the configuration."""

    def __init__(self, folder, ranks, *arguments, cores=None):
        # Its ranks are known by this mark, also when mpirun is gone.
        self.mark = f"TRIREME_FAULT_JOB={uuid.uuid4()}"
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           TRIREME_FAULT_JOB=self.mark.split("=")[1])
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks),
                   trireme_program(), "train", "run.yaml"]
        for argument in arguments:
            command += ["--set", argument]
        if cores:
            command = ["taskset", "-c", cores] + command
        self.n_ranks = ranks
        self.begin = time.monotonic()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        self.pids = {}

    def processes(self):
        """All that still run, mpirun's own included."""
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_running(pid)
                and self.mark in proc_text(pid, "environ").split("\0")]

    def find_ranks(self):
        """{rank: pid} of those that have come so far; remembers all that there have been."""
        for name in os.listdir("/proc"):
            variables = proc_text(name, "environ").split("\0") if name.isdigit() else []
            if self.mark not in variables:
                continue
            for variable in variables:
                # Between fork and exec it is still mpirun.
                if (variable.startswith("OMPI_COMM_WORLD_RANK=")
                        and "trireme" in os.path.basename(proc_text(name, "cmdline").split("\0")[0])):
                    self.pids[int(variable.split("=")[1])] = int(name)
        return self.pids

    def wait_for_ranks(self, count=None, limit=120):
        """Until so many have come (default: all) and catch signals; {rank: pid}."""
        end = time.monotonic() + limit
        while time.monotonic() < end and self.process.poll() is None:
            ready = {rank: pid for rank, pid in self.find_ranks().items() if catches_signals(pid)}
            if len(ready) >= (self.n_ranks if count is None else count):
                return ready
            time.sleep(0.002)
        raise RuntimeError("the ranks did not start:\n" + self.output())

    def wait_for(self, text, limit=120):
        end = time.monotonic() + limit
        while text not in self.output():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"'{text}' never came:\n" + self.output())
            time.sleep(0.01)

    def output(self):
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def wait(self, limit=120):
        """The launcher's exit code, as a shell gives it."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            alive = [f"{pid} {proc_text(pid, 'cmdline')[:60]!r} {proc_text(pid, 'wchan')}"
                     for pid in self.processes()]
            self.end()
            raise RuntimeError(f"the run did not end; alive: {alive}\n"
                               + self.output()[-4000:]) from None
        return code if code >= 0 else 128 - code

    def wait_for_nobody(self, limit=15):
        """Until the ranks seen are gone; seconds that took."""
        begin = time.monotonic()
        while self.processes():
            if time.monotonic() - begin > limit:
                alive = self.processes()
                self.end()
                raise RuntimeError(f"{alive} outlived their job:\n" + self.output()[-4000:])
            time.sleep(0.01)
        return time.monotonic() - begin

    def end(self):
        """Ends what this object has started, and nothing else."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def catches_signals(pid):
    for line in proc_text(pid, "status").splitlines():
        if line.startswith("SigCgt:"):
            return int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1 == 1
    return False


def tensors_of(step_folder):
    """The stored pieces of all tensors, in an order that no file, rank or entry number changes."""
    pieces = []
    for path in Path(step_folder).glob("*.safetensors"):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8:8 + length])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            data = content[8 + length + first:8 + length + last]
            pieces.append((name.rsplit("#", 1)[0], str(entry["shape"]), entry["dtype"],
                           hashlib.sha256(data).hexdigest()))
    if not pieces:
        raise RuntimeError(f"no tensors in {step_folder}")
    return sorted(pieces)


def newest_checkpoint(folder):
    steps = sorted(path for path in (Path(folder) / "checkpoints").glob("step-*")
                   if path.name[5:].isdigit() and (path / "manifest.json").exists())
    return steps[-1] if steps else None


def seeded(seed):
    seed = int(time.time()) if seed is None else seed
    print(f"seed {seed}")
    return random.Random(seed)
