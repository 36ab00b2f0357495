#!/usr/bin/env python3
"""Whether the injector sees every call on the checkpoints folder that the kernel sees: the same
save, once recorded by it and once by strace."""

import collections
import os
import re
import shutil
import subprocess

from support import Results, Work, arguments

NAMES = {"openat": "open", "unlinkat": "unlink", "renameat2": "rename", "renameat": "rename",
         "rmdir": "unlink"}
TRACED = "openat,open,write,fsync,close,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,getdents64"


def save(given, folder, before=(), environment=None):
    command = [given.bin + "/save_program", "save", folder, "1", "4", "keep=2", "threads=2"]
    subprocess.run(list(before) + command, check=True, env=environment)


def main():
    given = arguments(__doc__)
    results = Results("Calls that the injector sees")
    if shutil.which("strace") is None:
        results.skipped("all of them", "strace is not installed")
        results.finish()
    with Work(given.work) as work:
        log = work / "log"
        save(given, work / "one", environment=dict(
            os.environ, LD_PRELOAD=given.injector, FAULT_FOLDER=work / "one", FAULT_LOG=log))
        with open(log) as lines:
            seen = {call: int(count) for call, count in (line.split() for line in lines)}
        trace = work / "trace"
        try:
            save(given, work / "two", ["strace", "-f", "-y", "-s", "0", "-o", trace, "-e", "trace=" + TRACED])
        except subprocess.CalledProcessError:
            results.skipped("all of them", "strace may not trace here")
            results.finish()
        kernel = collections.Counter()
        with open(trace) as lines:
            for line in lines:
                call = re.match(r"\d+ +(\w+)\(", line)
                if call is None or work / "two" not in line:
                    continue
                if call.group(1) == "getdents64":
                    # The end of listing a folder, whose close the injector leaves alone.
                    kernel["close"] -= line.rstrip().endswith(" = 0")
                    continue
                name = NAMES.get(call.group(1), call.group(1))
                if name != "open" or "O_CREAT" in line:
                    kernel[name] += 1
    for call in sorted(set(seen) | set(kernel)):
        results.row(call, seen.get(call, 0), kernel[call])
    results.finish()


if __name__ == "__main__":
    main()
