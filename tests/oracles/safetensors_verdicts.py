"""Compares which damaged safetensors files this program accepts with the reference library.

    safetensors_verdicts.py TRIREME FILES SEED

Makes FILES files by changing good ones, asks both for a verdict on each, and prints how many
were accepted, refused and judged differently. Run by scripts/check-safetensors.
"""

import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from safetensors import SafetensorError, safe_open

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "I32": 4, "I64": 8, "U8": 1}


def good_header(rng):
    header, offset = {}, 0
    if rng.random() < 0.5:
        header["__metadata__"] = {"format": "pt", "note": "\u00e9" * rng.randrange(3)}
    for i in range(rng.randrange(0, 5)):
        dtype = rng.choice(list(SIZES))
        shape = [rng.randrange(0, 4) for _ in range(rng.randrange(0, 4))]
        size = SIZES[dtype]
        for n in shape:
            size *= n
        header[f"t{i}"] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return header, offset


def changed_value(rng, value):
    return rng.choice(
        [-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, 1.0, 0.5, None, True, "1", [], {}, value, [1]]
        + ([value + 1, value - 1, value * 2] if isinstance(value, int) else [])
    )


def change_header(rng, header):
    """One change to the table itself."""
    names = [name for name in header if name != "__metadata__"]
    kind = rng.randrange(7)
    if kind == 0 and "__metadata__" in header:
        header["__metadata__"] = rng.choice([{"a": 1}, {"a": None}, [], "x", {"a": {}}, {}, None])
        return
    if not names:
        header["t"] = changed_value(rng, 1)
        return
    entry = header[rng.choice(names)]
    if kind == 1:
        entry["dtype"] = rng.choice(["F32", "f32", "", "X", 4, None, "BF16", "U8"])
    elif kind == 2:
        entry["shape"] = rng.choice(
            [entry["shape"] + [1], entry["shape"] + [0], entry["shape"][:-1], [2**32, 2**32], [-1], 3]
        )
    elif kind == 3 and entry["shape"]:
        entry["shape"][0] = changed_value(rng, entry["shape"][0])
    elif kind == 4:
        entry["data_offsets"][rng.randrange(2)] = changed_value(rng, entry["data_offsets"][0])
    elif kind == 5:
        del entry[rng.choice(list(entry))]
    else:
        entry["data_offsets"] = rng.choice(
            [entry["data_offsets"][::-1], entry["data_offsets"] + [0], entry["data_offsets"][:1], [], 7]
        )


def change_text(rng, text):
    """One change to the text of the table."""
    kind = rng.randrange(6)
    at = rng.randrange(len(text) + 1)
    if kind == 0:
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + rng.randrange(1, 4) :]
    if kind == 2:
        return text[:at] + rng.choice([b" ", b"\n", b"\0", b",", b"}", b"\xff", b"\xc3\xa9"]) + text[at:]
    if kind == 3:
        return text + rng.choice([b" ", b"       ", b"\0", b"\t", b"\n", b"x", b"{}"])
    if kind == 4:
        return rng.choice([b" ", b"\n", b"\xef\xbb\xbf"]) + text
    # A name that stands there twice.
    cut = text.find(b'"t0":')
    end = text.find(b"}", cut) + 1
    return text if cut < 0 else text[:end] + b"," + text[cut:end] + text[end:]


def make_file(rng):
    header, data_bytes = good_header(rng)
    choice = rng.random()
    if choice < 0.45:
        change_header(rng, header)
    text = json.dumps(header).encode()
    if 0.45 <= choice < 0.75:
        text = change_text(rng, text)
    if rng.random() < 0.5:
        text += b" " * (-len(text) % 8)
    length = len(text)
    if 0.75 <= choice < 0.8:
        length = rng.choice([0, 1, length - 1, length + 1, 2**32, 2**63, 2**64 - 1, 100_000_001])
    content = struct.pack("<Q", length) + text + bytes(data_bytes)
    if 0.8 <= choice < 0.9:
        content = content[: rng.randrange(len(content) + 1)]
    elif 0.9 <= choice < 0.93:
        content += bytes(rng.randrange(1, 9))
    return content


# What this program refuses on purpose while the reference accepts it: the first three because the
# text of the format does, the others because it has no use for them.
STRICTER = {
    "appears twice": "a name that appears twice",
    "does not begin with {": "white space before the table",
    "__metadata__ is not an object": "null for the metadata",
    "a size is 9223372036854775808": "a size of 2^63 in an empty tensor",
    "is not supported; expected": "an element type that this program lacks",
}


def stricter_rule(verdict):
    return next((rule for part, rule in STRICTER.items() if part in verdict), None)


def reference_accepts(path):
    try:
        with safe_open(path, framework="np"):
            return True
    except SafetensorError:
        return False


def main():
    trireme, n_files, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    accepted = refused = different = 0
    stricter = dict.fromkeys(STRICTER.values(), 0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(n_files):
            path = pathlib.Path(folder, f"{i:06}.safetensors")
            path.write_bytes(make_file(rng))
            paths.append(str(path))
        listing = pathlib.Path(folder, "list")
        listing.write_text("\n".join(paths) + "\n")
        ours = subprocess.run(
            [trireme, str(listing)], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert len(ours) == n_files, "a verdict for every file"
        for path, verdict in zip(paths, ours):
            reference = reference_accepts(path)
            accepted += reference
            refused += not reference
            rule = stricter_rule(verdict)
            if reference and rule:
                stricter[rule] += 1
            elif reference != (verdict == "accepted"):
                different += 1
                if different <= 10:
                    print("reference", "accepts" if reference else "refuses", "ours:", verdict)
                    print("   ", pathlib.Path(path).read_bytes()[:300])
    for rule, count in stricter.items():
        print(f"{count} files with {rule}: refused on purpose, the reference accepts them")
    print(f"{n_files} files: the reference accepts {accepted}, refuses {refused}; "
          f"{different} other verdicts differ")
    sys.exit(1 if different or not accepted or not refused else 0)


main()
