"""Submits the job files of scripts/slurm to a real Slurm and checks how the runs end: finished,
requeued by the administrator, by a signal and by preemption, at the time limit, cancelled, and
started wrongly. Where a run goes on by itself, its last checkpoint must hold the same bits as that
of a run that nothing disturbed. Run by scripts/check-slurm.

    check_slurm.py BINARY_FOLDER [CASE...]
"""

import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 300
CONFIGURATION = f"""\
run: {{name: small, output: out, steps: {STEPS}}}
device: {{threads: 1}}
model: {{family: llama, layers: 5, hidden: 24, heads: 6, kv_heads: 2, ffn_hidden: 48,
        vocab_size: 257, max_sequence_length: 16}}
data: {{train: [{{path: text}}]}}
batch: {{global: 8, micro: 1}}
mesh: {{data: 2}}
checkpoint: {{interval: 50, keep: 2}}
logging: {{interval: 5}}
# Every step takes some milliseconds on any machine.
testing: {{links: [{{axis: data, latency_ms: 6}}]}}
"""
# The job files ask for eight processes on a node with a GPU each.
TWO_TASKS = ("--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=2")


class Failure(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failure(text)


def tensors_of(folder):
    """Every tensor of a checkpoint with its bytes; the rest of the files names the run."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        for name, entry in json.loads(content[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[path.name, name] = content[8 + size + begin:8 + size + end]
    return tensors


class Job:
    """A job file under way, in a folder of its own."""

    def __init__(self, suite, name, job_file, *options, configuration=CONFIGURATION, settings=()):
        self.cluster = suite.cluster
        self.folder = suite.folder / name
        self.folder.mkdir()
        for part in suite.folder.glob("text.*"):
            os.link(part, self.folder / part.name)
        (self.folder / "run.yaml").write_text(configuration, encoding="utf-8")
        arguments = ["sbatch", "--parsable", "--output=job.log", *options, job_file, "run.yaml",
                     *settings]
        self.begin = time.monotonic()
        self.number = self.cluster.run(*arguments, cwd=self.folder).strip()

    def field(self, name):
        shown = self.cluster.run("scontrol", "--oneliner", "show", "job", self.number)
        return re.search(rf"\b{name}=(\S*)", shown).group(1)

    def log(self):
        path = self.folder / "job.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def step(self):
        steps = re.findall(r"step (\d+)/", self.log())
        return int(steps[-1]) if steps else 0

    def wait(self, is_there, what, limit=300):
        until = time.monotonic() + limit
        while not is_there():
            if time.monotonic() > until:
                raise Failure(f"job {self.number}: {what} did not come in {limit} s; state "
                              f"{self.field('JobState')}; log:\n{self.log()[-1500:]}")
            time.sleep(0.1)

    def wait_for_step(self, step):
        self.wait(lambda: self.step() >= step, f"step {step}")

    def end(self):
        """(state, exit code) of the job at its end."""
        running = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "PREEMPTED",
                   "SIGNALING", "STOPPED")
        self.wait(lambda: self.field("JobState") not in running, "its end")
        return self.field("JobState"), int(self.field("ExitCode").split(":")[0])

    def processes(self):
        """Those of the run, found by what Slurm has put in their environment."""
        found = []
        mark = f"SLURM_JOB_ID={self.number}".encode()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (mark in (path / "environ").read_bytes().split(b"\0") and
                        (path / "comm").read_text(encoding="utf-8").strip() == "trireme"):
                    found.append(int(path.name))
            except OSError:
                continue
        return sorted(found)

    def checkpoint(self, step=STEPS):
        return self.folder / "out" / "checkpoints" / f"step-{step:08d}"

    def last_checkpoint(self):
        steps = sorted(int(path.name[5:])
                       for path in self.checkpoint().parent.glob("step-????????"))
        return steps[-1] if steps else 0

    def expect_end(self, state, code):
        found = self.end()
        expect(found == (state, code), f"job {self.number} ended with {found}, expected "
               f"{(state, code)}; log:\n{self.log()[-1500:]}")

    def expect_same_end(self, suite, starts):
        """Finished after so many starts with the checkpoint of the undisturbed run."""
        self.expect_end("COMPLETED", 0)
        found = self.log().count(", on ")
        expect(found == starts, f"{found} starts, expected {starts}; log:\n{self.log()[-1500:]}")
        expected, tensors = tensors_of(suite.reference), tensors_of(self.checkpoint())
        expect(expected and tensors == expected,
               "the last checkpoint differs from the undisturbed run's")


class Suite:
    def __init__(self, cluster, folder, binaries):
        self.cluster, self.folder = cluster, folder
        self.jobs = ROOT / "scripts" / "slurm"
        self.trireme = binaries / "trireme"
        cluster.environment.update(TRIREME=str(self.trireme), OMP_NUM_THREADS="1", TOO_SOON="0")
        (folder / "text.txt").write_text("".join(f"line {i * i} of a text\n" for i in range(4000)),
                                         encoding="utf-8")
        cluster.run(self.trireme, "prepare", "--input", "text.txt", "--output", "text", cwd=folder)
        self.reference = None

    def finished(self):
        job = Job(self, "finished", self.jobs / "single-node.sbatch", *TWO_TASKS)
        job.expect_end("COMPLETED", 0)
        self.reference = job.checkpoint()
        before = tensors_of(job.checkpoint(STEPS - 50))
        expect(before and before != tensors_of(self.reference), "a comparison that sees nothing")
        return f"{STEPS} steps"

    def two_nodes(self):
        job = Job(self, "two-nodes", self.jobs / "multi-node.sbatch", "--nodes=2",
                  "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=1")
        job.expect_same_end(self, 1)
        return "one task on each of two nodes, same bits as two tasks on one"

    def requeued(self):
        job = Job(self, "requeued", self.jobs / "requeue.sbatch", *TWO_TASKS)
        job.wait_for_step(30)
        self.cluster.run("scontrol", "requeue", job.number)
        job.expect_same_end(self, 2)
        expect(job.log().count("stopped on request: signal SIGTERM") == 1, job.log()[:1500])
        return "by scontrol requeue, saved first; same bits"

    def signalled(self):
        job = Job(self, "signalled", self.jobs / "requeue.sbatch", *TWO_TASKS)
        for stops, step in ((1, 20), (2, 90)):
            job.wait_for_step(step)
            self.cluster.run("scancel", "--signal=USR1", job.number)
            job.wait(lambda: job.log().count("stopped on request") == stops, "a stop")
        job.expect_same_end(self, 3)
        return "USR1 twice, requeued by the job file with code 75; same bits"

    def preempted(self):
        job = Job(self, "preempted", self.jobs / "multi-node.sbatch", "--nodes=2",
                  "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=1")
        job.wait_for_step(30)
        self.cluster.run("sbatch", "--parsable", "--output=/dev/null", "--partition=urgent",
                         "--nodes=2", "--exclusive", "--wrap", "sleep 1")
        job.expect_same_end(self, 2)
        expect(job.log().count("stopped on request: signal SIGTERM") == 1, job.log()[:1500])
        return "both nodes taken by an urgent job, saved first; same bits"

    def killed(self):
        job = Job(self, "killed", self.jobs / "requeue.sbatch", *TWO_TASKS)
        job.wait_for_step(60)
        os.kill(job.processes()[-1], signal.SIGKILL)
        job.expect_same_end(self, 2)
        return "a process killed, requeued by the job file with code 137; same bits"

    def time_limit(self):
        endless = CONFIGURATION.replace(f"steps: {STEPS}", "steps: 1000000")
        job = Job(self, "time-limit", self.jobs / "single-node.sbatch", *TWO_TASKS, "--time=1",
                  "--signal=USR1@50", configuration=endless)
        job.expect_end("FAILED", 75)
        step = job.last_checkpoint()
        expect(step > 0 and step >= job.step(), f"checkpoint of step {step}, last was {job.step()}")
        return f"of a minute: code 75 after {time.monotonic() - job.begin:.0f} s, step {step} saved"

    def cancelled(self):
        job = Job(self, "cancelled", self.jobs / "requeue.sbatch", *TWO_TASKS)
        job.wait_for_step(20)
        self.cluster.run("scancel", job.number)
        state, _ = job.end()
        expect(state == "CANCELLED", f"ended as {state}")
        step = job.last_checkpoint()
        expect(step >= 20, f"newest checkpoint is of step {step}; log:\n{job.log()[-1500:]}")
        time.sleep(3)
        expect(job.field("JobState") == "CANCELLED", "it was started again")
        return f"saved step {step}, not started again"

    def failed(self):
        nan = ("--set", "testing.faults=[{rank: 1, step: 30, action: nan-gradient, "
               "tensor: layers.0.mlp.down.weight}]")
        job = Job(self, "failed", self.jobs / "requeue.sbatch", *TWO_TASKS, settings=nan)
        job.expect_end("FAILED", 76)
        expect(job.log().count(", on ") == 1, "it was started again")
        return "NaN on one process: code 76, not started again"

    def without_pmix(self):
        for kind in ("none", "pmi2"):
            done = subprocess.run(
                ["srun", f"--mpi={kind}", "-n", "2", self.trireme, "train", "run.yaml"],
                cwd=self.folder / "finished", env=self.cluster.environment, text=True,
                capture_output=True, timeout=60, check=False)
            expect(done.returncode == 78, f"--mpi={kind}: code {done.returncode}: {done.stderr}")
            expect(done.stderr.count("start with srun --mpi=pmix") == 1, done.stderr)
        return "srun --mpi=none and --mpi=pmi2: code 78 and the remedy, once"


CASES = ("finished", "two_nodes", "requeued", "signalled", "preempted", "killed", "time_limit",
         "cancelled", "failed", "without_pmix")


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    chosen = [name.replace("-", "_") for name in sys.argv[2:]] or CASES
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the cluster ends as well
    with tempfile.TemporaryDirectory(prefix="trireme-slurm-", ignore_cleanup_errors=True) as top:
        folder = pathlib.Path(top)
        begin = time.monotonic()
        with Cluster(folder / "cluster") as cluster:
            print(f"{cluster.run('sinfo', '--version').strip()}, two nodes on this machine, "
                  f"started in {time.monotonic() - begin:.1f} s", flush=True)
            suite = Suite(cluster, folder, binaries)
            for name in CASES:
                if name not in chosen and name != "finished":
                    continue
                begin = time.monotonic()
                try:
                    text = "passed  " + name + ": " + getattr(suite, name)()
                except (Failure, RuntimeError, subprocess.TimeoutExpired) as failure:
                    failed += 1
                    text = f"FAILED  {name}: {failure}\n{cluster.log()}"
                print(f"{text} ({time.monotonic() - begin:.0f} s)", flush=True)
                if suite.reference is None:
                    break  # nothing to compare with
    sys.exit(1 if failed else 0)


main()
