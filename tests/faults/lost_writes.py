#!/usr/bin/env python3
"""A power cut at every moment of a save: what was not synced may be lost.

A save's system calls are recorded. For each prefix of them all sets of directory changes are built
that the disk may hold (those that no fsync of their folder has made durable may be missing, in any
combination), with data that was not synced absent, cut at 4 KiB, read as zeros or whole. Then the
loader is asked. This is harsher than file systems are, most of which keep directory changes in order.
"""

import hashlib
import itertools
import os
import shutil
import subprocess

from save_faults import SCENARIOS
from support import Checker, Results, Work, arguments

BLOCK = 4096
MOST_PENDING = 6  # all subsets of so many changes; of more, a selection


class File:
    def __init__(self, data=b""):
        self.data, self.durable = data, len(data)


class Folder:
    def __init__(self):
        self.entries = {}


class Disk:
    """A tree of files and folders: what is durable, and the changes of folders that are not."""

    def __init__(self, base):
        self.base = base
        self.root = self.read(base)
        self.now = {folder: dict(folder.entries) for folder in self.folders()}
        self.pending = []  # (folders touched, {(folder, name): inode or None})

    def read(self, path):
        if os.path.isfile(path):
            with open(path, "rb") as content:
                return File(content.read())
        folder = Folder()
        for name in os.listdir(path):
            folder.entries[name] = self.read(os.path.join(path, name))
        return folder

    def folders(self):
        found, todo = [], [self.root]
        while todo:
            folder = todo.pop()
            found.append(folder)
            todo += [e for e in folder.entries.values() if isinstance(e, Folder)]
        return found

    def find(self, path):
        node = self.root
        for name in os.path.relpath(path, self.base).split("/"):
            if name != ".":
                node = self.now[node][name]
        return node

    def place(self, path):
        return self.find(os.path.dirname(path)), os.path.basename(path)

    def change(self, changes):
        for (folder, name), inode in changes.items():
            if inode is None:
                self.now[folder].pop(name, None)
            else:
                self.now[folder][name] = inode
        self.pending.append(changes)

    def apply(self, call, path, more, blob):
        if call == "mkdir":
            folder = Folder()
            self.now[folder] = {}
            self.change({self.place(path): folder})
        elif call == "open":
            parent, name = self.place(path)
            if name not in self.now[parent]:
                self.change({(parent, name): File()})
            elif more == "empty":
                self.now[parent][name].data, self.now[parent][name].durable = b"", 0
        elif call == "write":
            self.find(path).data += blob
        elif call in ("rename", "exchange"):
            source, target = self.place(path), self.place(more)
            other = self.now[target[0]].get(target[1]) if call == "exchange" else None
            self.change({source: other, target: self.now[source[0]][source[1]]})
        elif call == "unlink":
            self.change({self.place(path): None})
        elif call == "fsync":
            node = self.find(path)
            if isinstance(node, File):
                node.durable = len(node.data)
            else:
                kept = []
                for changes in self.pending:
                    if any(folder is node for folder, _ in changes):
                        self.make_durable(changes)
                    else:
                        kept.append(changes)
                self.pending = kept

    @staticmethod
    def make_durable(changes):
        for (folder, name), inode in changes.items():
            if inode is None:
                folder.entries.pop(name, None)
            else:
                folder.entries[name] = inode

    def selections(self):
        """Which pending changes have reached the disk."""
        n = len(self.pending)
        if n <= MOST_PENDING:
            return list(itertools.product((False, True), repeat=n))
        chosen = {tuple(i < k for i in range(n)) for k in range(n + 1)}
        for k in range(n):
            chosen.add(tuple(i == k for i in range(n)))
            chosen.add(tuple(i != k for i in range(n)))
        return sorted(chosen)

    def states(self):
        """Every tree that the disk may hold now: {path: bytes, or None for a folder}."""
        for selection in self.selections():
            entries = {folder: dict(folder.entries) for folder in self.now}
            for is_there, changes in zip(selection, self.pending):
                for (folder, name), inode in changes.items() if is_there else ():
                    if inode is None:
                        entries[folder].pop(name, None)
                    else:
                        entries[folder][name] = inode
            seen = set()
            for variant in ("absent", "cut", "zeros", "whole"):
                tree = {}
                self.walk(self.root, "", entries, variant, tree)
                key = hashlib.sha256(repr(sorted(tree.items())).encode()).digest()
                if key not in seen:
                    seen.add(key)
                    yield key, tree

    def walk(self, folder, at, entries, variant, tree):
        for name, inode in entries[folder].items():
            path = at + "/" + name
            if isinstance(inode, Folder):
                tree[path] = None
                self.walk(inode, path, entries, variant, tree)
                continue
            data, durable = inode.data, inode.durable
            if variant == "absent":
                data = data[:durable]
            elif variant == "cut":
                data = data[: max(durable, (durable + len(data)) // 2 // BLOCK * BLOCK)]
            elif variant == "zeros":
                data = data[:durable] + bytes(len(data) - durable)
            tree[path] = data


def materialise(tree, at):
    os.makedirs(at)
    for path, data in sorted(tree.items()):
        if data is None:
            os.makedirs(at + path, exist_ok=True)
        else:
            with open(at + path, "wb") as out:
                out.write(data)


def record(given, scenario, work):
    """The folder before the save, and its calls: (call, path, more, bytes written)."""
    at, base, calls = work / "now", work / "base", work / "record"
    for folder in (at, base, calls):
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(at)
    os.makedirs(calls)
    program = [given.bin + "/save_program", "save", at + "/run/checkpoints"]
    for command in scenario.before:
        subprocess.run(program + command + ["threads=2"], check=True)
    shutil.copytree(at, base)
    settings = {"LD_PRELOAD": given.injector, "FAULT_FOLDER": at, "FAULT_RECORD": calls}
    environment = dict(os.environ, **settings)
    subprocess.run(program + scenario.command + ["threads=2"], check=True, env=environment)
    found = []
    with open(calls + "/calls") as lines:
        for i, line in enumerate(lines, 1):
            call, path, more = line.rstrip("\n").split("\t")
            blob = b""
            if call == "write":
                with open(f"{calls}/{i}", "rb") as content:
                    blob = content.read()
            # The record names the folder of the save, the model's tree that of before.
            found.append((call, path.replace(at, base), more.replace(at, base), blob))
    return base, found


def check_scenario(given, scenario, work, check, results):
    base, calls = record(given, scenario, work)
    disk = Disk(base)
    seen = {}
    good = total = 0
    is_published = is_durable = False
    new_name = "/step-%08d" % scenario.new[0]
    loads = {}
    for i, (call, path, more, blob) in enumerate([("", "", "", b"")] + calls):
        disk.apply(call, path, more, blob)
        is_published |= call in ("rename", "exchange") and more.endswith(new_name)
        is_durable |= is_published and call == "fsync" and path.endswith("/checkpoints")
        # At the end the save has been reported, whatever was synced.
        allowed = [scenario.new] if is_durable or i == len(calls) else scenario.former + [scenario.new]
        for key, tree in disk.states():
            if key not in seen:
                at = work / "state"
                shutil.rmtree(at, ignore_errors=True)
                materialise(tree, at)
                seen[key] = check(at + "/run/checkpoints")
            after = seen[key]
            found = (after["loaded"], after["variant"])
            loads[found] = loads.get(found, 0) + 1
            is_good = found in allowed and len(after["valid"]) >= scenario.least_valid
            total += 1
            good += is_good
            if not is_good:
                print(f"    after call {i}, {call} {path}: loads {found}, expected {allowed}; "
                      f"{after}", flush=True)
    note = f"{len(calls)} calls, {len(seen)} different states, loads {loads}"
    results.row(scenario.name, good, total, note)


def main():
    given = arguments(__doc__)
    parent = given.work or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    results = Results("A power cut at every call of a save")
    with Work(parent) as work:
        check = Checker(given)
        for scenario in SCENARIOS:
            check_scenario(given, scenario, work, check, results)
        check.close()
    results.finish()


if __name__ == "__main__":
    main()
