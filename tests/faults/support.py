"""What the cases of the fault suite share: programs, folders and the table of results."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time


def arguments(about, **more):
    """--build and --work, and for each of `more` a number with that default."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--build", default="build/cpu", help="folder of the built programs")
    parser.add_argument("--work", default=None, help="folder for what the cases write")
    for name, default in more.items():
        kind = type(default) if default is not None else str
        parser.add_argument("--" + name.replace("_", "-"), default=default, type=kind)
    given = parser.parse_args()
    given.bin = os.path.join(os.path.abspath(given.build), "bin")
    given.injector = os.path.join(os.path.abspath(given.build), "tests", "libfault_injector.so")
    return given


class Work:
    """A folder of its own, deleted at the end."""

    def __init__(self, parent=None):
        self.path = tempfile.mkdtemp(prefix="trireme-faults-", dir=parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def __truediv__(self, name):
        return os.path.join(self.path, name)


def mpi_environment():
    """Open MPI's own settings, and one compute thread a process."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if os.getuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return environment


MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]


class Checker:
    """`save_program check` as a running program, asked about one folder after another."""

    def __init__(self, given):
        self.process = subprocess.Popen(
            [given.bin + "/save_program", "check"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder):
        self.process.stdin.write(folder + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("save_program check has ended on " + folder)
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Results:
    """Rows of a table, printed as they come; exit code 1 when one failed."""

    def __init__(self, title):
        self.begin = time.time()
        self.failed = 0
        print(title, flush=True)

    def row(self, name, good, total, note=""):
        self.failed += good != total
        word = "passed" if good == total else "FAILED"
        print("  %-6s  %5d of %-5d  %-44s %s" % (word, good, total, name, note), flush=True)

    def skipped(self, name, reason):
        print("  SKIPPED                  %-44s %s" % (name, reason), flush=True)

    def finish(self):
        print("  %.1f s" % (time.time() - self.begin), flush=True)
        sys.exit(1 if self.failed else 0)
