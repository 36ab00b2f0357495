#!/usr/bin/env python3
"""Every system call of a save and of the deletions after it fails or is the last one of its
process; afterwards the newest or the previous checkpoint loads and is what was saved then.

Runs a small program that saves from two ranks: as threads of a process, where every call of both
counts, and as processes of a launcher with one rank at a time under the injector.
"""

import os
import shutil
import subprocess

from support import MPIRUN, Checker, Results, Work, arguments, mpi_environment

CALLS = ["open", "write", "fsync", "close", "rename", "unlink", "mkdir"]


class Scenario:
    """What is there before, the save, and which (step, variant) may load afterwards."""

    def __init__(self, name, before, command, former, new, least_valid):
        self.name, self.before, self.command = name, before, command
        self.former, self.new, self.least_valid = former, new, least_valid


SCENARIOS = [
    Scenario("first save", [], ["1", "1"], [(-1, -1)], (1, 0), 0),
    Scenario("second save", [["1", "1"]], ["2", "2"], [(1, 0)], (2, 0), 1),
    Scenario(
        "saving a step again",
        [["1", "2"]],
        ["2", "2", "variant=5"],
        [(2, 0)],
        (2, 5),
        1,
    ),
    Scenario(
        "save and delete",
        [["1", "4", "keep=9"]],
        ["5", "5", "keep=2"],
        [(4, 0)],
        (5, 0),
        2,
    ),
]


def actions_for(call):
    if call == "write":
        return ["kill", "kill-after", "tear", "ENOSPC", "EIO"]
    if call == "close":
        return ["kill", "kill-after", "EIO"]
    return ["kill", "kill-after", "ENOSPC", "EIO"]


class Suite:
    def __init__(self, given, results, work):
        self.given, self.results, self.work = given, results, work
        self.program = given.bin + "/save_program"
        self.check = Checker(given)
        self.outcomes = {}

    def save(self, folder, command, rank=None, fault=None):
        """The exit code; negative or above 128 when killed. rank: None for threads."""
        settings = {"FAULT_FOLDER": folder, "LD_PRELOAD": self.given.injector, **(fault or {})}
        words = [self.program, "save", folder] + command
        environment = mpi_environment()
        if rank is None:
            words += ["threads=2"]
            environment.update(settings if fault else {})
        else:
            wrapped = ["env"] + [f"{name}={value}" for name, value in settings.items()] + words
            ranks = [wrapped if fault and r == rank else words for r in range(2)]
            words = MPIRUN + ["-n", "1"] + ranks[0] + [":", "-n", "1"] + ranks[1]
        done = subprocess.run(words, env=environment, capture_output=True, timeout=300)
        self.words = done.stderr.decode(errors="replace")[-300:]
        return done.returncode

    def prepare(self, scenario):
        base = self.work / ("base-" + scenario.name.replace(" ", "-"))
        if not os.path.isdir(base):
            os.makedirs(base)
            for command in scenario.before:
                assert self.save(base + "/run/checkpoints", command) == 0, self.words
        return base

    def fault_count(self, scenario, rank):
        """How many calls of each kind the save makes."""
        folder = self.fresh(scenario)
        log = self.work / "counts"
        if os.path.exists(log):
            os.remove(log)
        code = self.save(folder, scenario.command, rank, {"FAULT_LOG": log})
        assert code == 0, self.words
        with open(log) as lines:
            return {call: int(count) for call, count in (line.split() for line in lines)}

    def fresh(self, scenario):
        at = self.work / "now"
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(self.prepare(scenario), at)
        return at + "/run/checkpoints"

    def problem(self, scenario, rank, fault):
        """What is wrong after this fault, or nothing."""
        folder = self.fresh(scenario)
        code = self.save(folder, scenario.command, rank, fault)
        is_kill = fault["FAULT_ACTION"] in ("kill", "kill-after", "tear")
        # Some calls may fail without harm: the hint, a deletion, what only reads.
        if not is_kill and code not in (0, 73, 74):
            return f"exit code {code}: {self.words}"
        after = self.check(folder)
        found = (after["loaded"], after["variant"])
        self.outcomes[found == scenario.new] = self.outcomes.get(found == scenario.new, 0) + 1
        allowed = [scenario.new] if code == 0 else scenario.former + [scenario.new]
        if found not in allowed:
            return f"exit code {code}, then loads {found}, expected one of {allowed}: {after}"
        if len(after["valid"]) < scenario.least_valid:
            return f"only {after['valid']} are left"
        # Whatever was left behind, the next save works and clears it away.
        if self.save(folder, ["9", "9"]) != 0:
            return f"the next save fails: {self.words}"
        if self.check(folder)["loaded"] != 9:
            return "the next save is not found"
        left = [n for n in os.listdir(folder) if n.startswith(".trash") or ".tmp-" in n]
        return f"{left} are left after the next save" if left else ""

    def run(self, scenario, rank):
        counts = self.fault_count(scenario, rank)
        who = "two threads" if rank is None else f"rank {rank} of two processes"
        for call in CALLS:
            total = good = 0
            for at in range(1, counts.get(call, 0) + 1):
                for action in actions_for(call):
                    fault = {"FAULT_CALL": call, "FAULT_AT": str(at), "FAULT_ACTION": action}
                    problem = self.problem(scenario, rank, fault)
                    total += 1
                    good += not problem
                    if problem:
                        print(f"    {call} {at} {action}: {problem}", flush=True)
            if total:
                self.results.row(f"{scenario.name}, {who}: {call}", good, total)


def main():
    given = arguments(__doc__, mode="all", scenario="")
    results = Results("Faults at every call of a save")
    with Work(given.work) as work:
        suite = Suite(given, results, work)
        for scenario in (s for s in SCENARIOS if given.scenario in ("", s.name)):
            if given.mode in ("all", "threads"):
                suite.run(scenario, None)
            if given.mode in ("all", "processes"):
                for rank in (0, 1):
                    suite.run(scenario, rank)
        suite.check.close()
        print(f"  the new checkpoint loaded {suite.outcomes.get(True, 0)} times, "
              f"the one before {suite.outcomes.get(False, 0)} times")
    results.finish()


if __name__ == "__main__":
    main()
