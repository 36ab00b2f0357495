#!/usr/bin/env python3
"""Makes golden.json: what numpy and the written rules of Megatron's data order give.

Needs numpy only. The rules are spelled out here a second time and differently from data/: a
sample's place is found by searching the running sum of the document lengths, not by walking them.

    python3 make_golden.py > golden.json
"""

import json
import math
import re
import zlib

import numpy

FULL = 400  # arrays up to this length are stored whole, others as CRC-32 of int64


def stored(array):
    array = numpy.asarray(array, dtype="<i8").ravel()
    if len(array) <= FULL:
        return array.tolist()
    return {"length": len(array), "crc32": zlib.crc32(array.tobytes())}


def shuffles():
    for seed in (0, 1, 1234, 42, 2**32 - 1):
        random = numpy.random.RandomState(seed)
        for n in (1, 2, 3, 17, 64, 65, 625, 70001):
            a = numpy.arange(n, dtype=numpy.uint32)
            random.shuffle(a)
            yield {"seed": seed, "n": n, "order": stored(a)}


def sample_order(lengths, first, s, n_samples, seed):
    lengths = numpy.asarray(lengths, dtype=numpy.int64)
    T = int(lengths.sum())
    E = 1
    while E * T < n_samples * s + 1:
        E += 1
    separate = False
    sans = ((E - 1) * T - 1) // s
    if E > 1:
        last = n_samples - sans
        per = (T - 1) // s
        assert 0 <= last <= per + 1
        separate = last < int(0.80 * per)

    random = numpy.random.RandomState(seed)
    indices = numpy.arange(first, first + len(lengths), dtype=numpy.int32)
    documents = []
    for epochs in ([E - 1, 1] if separate else [E]):
        part = numpy.tile(indices, epochs)
        random.shuffle(part)
        documents.append(part)
    documents = numpy.concatenate(documents)

    N = (E * T - 1) // s
    ends = numpy.cumsum(lengths[documents - first])
    places = numpy.arange(N + 1, dtype=numpy.int64) * s
    d = numpy.searchsorted(ends, places, side="right")
    starts = numpy.concatenate(([0], ends[:-1]))
    positions = numpy.stack([d, places - starts[d]], axis=1)
    positions[0] = (0, 0)

    parts = [(0, sans), (sans, N)] if separate else [(0, N)]
    order = []
    for begin, end in parts:
        a = numpy.arange(begin, end, dtype=numpy.uint32)
        random.shuffle(a)
        order.append(a)
    return E, separate, documents, positions, numpy.concatenate(order)


def orders():
    some = [5, 1, 9, 2, 2, 30, 7, 4]
    with_empty = [0, 3, 0, 0, 11, 0, 6, 0]
    many = [(i * 7919) % 977 + 1 for i in range(501)]
    cases = [
        (some, 0, 7, 5, 1234),        # less than one epoch
        (some, 0, 7, 8, 1),           # exactly what one epoch has
        (some, 0, 7, 9, 1),           # one sample of the second epoch: last epoch apart
        (some, 0, 7, 16, 1),          # most of the second: not apart
        (some, 3, 4, 100, 42),        # first sequence not 0
        (some, 0, 1, 150, 7),
        (some, 0, 61, 3, 7),          # sample longer than an epoch
        (with_empty, 0, 4, 4, 0),
        (with_empty, 0, 4, 13, 0),
        ([1], 0, 3, 5, 9),            # one token, over and over
        ([2], 0, 1, 1, 2**32 - 1),
        ([17, 17], 5, 17, 4, 11),
        (many, 0, 128, 1000, 1234),
        (many, 0, 128, 4000, 1234),
        (many, 0, 128, 5600, 1234),
        (many, 17, 33, 30011, 99),
    ]
    for lengths, first, s, n, seed in cases:
        E, separate, documents, positions, shuffle = sample_order(lengths, first, s, n, seed)
        assert len(shuffle) >= n
        yield {
            "lengths": lengths, "first": first, "sequence_length": s, "n_samples": n, "seed": seed,
            "epochs": E, "separate_last_epoch": separate, "documents": stored(documents),
            "positions": stored(positions), "shuffle": stored(shuffle),
        }


def normalize(weights):
    w = numpy.array(weights, dtype=numpy.float64)
    return (w / numpy.sum(w)).tolist()


def blends():
    cases = [
        ([1.0, 1.0], 10), ([0.7, 0.3], 101), ([1.0, 2.0, 4.0], 300), ([0.1] * 3, 1000),
        ([0.1, 0.2, 0.7, 0.3, 0.9, 0.55, 0.31, 0.01, 0.77], 5000), ([3.0, 0.0, 1.0], 41),
        ([((i * 37) % 101 + 1) * 0.01 for i in range(203)], 20011), ([5.0], 7),
    ]
    for weights, n_samples in cases:
        w = normalize(weights)
        targets = [math.ceil(n_samples * x) for x in w]
        requests = [math.ceil(t * 1.005) for t in targets]
        size = sum(targets)
        w2 = numpy.array(normalize(w))
        counts = numpy.zeros(len(w2))
        datasets, samples = [], []
        for n in range(size):
            i = int(numpy.argmax(w2 * max(float(n), 1.0) - counts))
            datasets.append(i)
            samples.append(int(counts[i]))
            counts[i] += 1
        yield {
            "weights": weights, "n_samples": n_samples, "normalized": w, "targets": targets,
            "requests": requests, "size": size, "datasets": stored(datasets),
            "samples": stored(samples),
        }


def runs():
    """Whole blends: which token of which dataset each sample of a run begins with."""
    for seed in (0, 7, 1234, 99991, 2**32 - 1):
        for weights, s, n_samples in (([0.5, 0.3, 0.2], 33, 3000), ([1.0, 5.0, 0.25], 64, 1111)):
            corpora = [[(i * 7919 + k * 31 + seed % 13) % (50 + 40 * k) + 1
                        for i in range(211 - 70 * k)] for k in range(3)]
            w = normalize(weights)
            targets = [math.ceil(n_samples * x) for x in w]
            parts = [sample_order(lengths, 0, s, math.ceil(t * 1.005), seed)
                     for lengths, t in zip(corpora, targets)]
            w2 = numpy.array(normalize(w))
            counts = numpy.zeros(3, dtype=numpy.int64)
            datasets, tokens = [], []
            for n in range(sum(targets)):
                k = int(numpy.argmax(w2 * max(float(n), 1.0) - counts))
                _, _, documents, positions, shuffle = parts[k]
                d, offset = positions[shuffle[counts[k]]]
                counts[k] += 1
                datasets.append(k)
                tokens.append(sum(corpora[k][:documents[d]]) + int(offset))
            yield {"seed": seed, "weights": weights, "sequence_length": s, "n_samples": n_samples,
                   "lengths": corpora, "epochs": [part[0] for part in parts],
                   "datasets": stored(datasets), "tokens": stored(tokens)}


def splits():
    for split, n in (("969,30,1", 1003), ("1", 7), ("0,1", 9), ("0.5 / 0.5", 5), ("1,1,0", 7),
                     ("1,1,1", 10), ("98,2,0", 25), ("50,25,25", 6)):
        shares = [float(x) for x in re.findall("[.0-9]+", split)]
        shares = normalize(shares + [0.0] * (3 - len(shares)))
        ends = [0.0]
        for share in shares:
            ends.append(ends[-1] + share)
        yield {"split": split, "n": n, "ranges": [
            None if a == b else [int(round(a * n)), int(round(b * n))]
            for a, b in zip(ends, ends[1:])]}


golden = {"shuffles": list(shuffles()), "orders": list(orders()), "blends": list(blends()),
          "runs": list(runs()), "splits": list(splits())}
print("{")
for k, (name, rows) in enumerate(golden.items()):
    body = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows)
    print(f'"{name}": [\n{body}\n]' + ("," if k + 1 < len(golden) else ""))
print("}")
