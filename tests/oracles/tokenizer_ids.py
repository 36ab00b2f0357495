"""Compares token ids with the reference implementations, and the speed of one thread.

    tokenizer_ids.py corpus FOLDER [MEGABYTES]    collects text from this machine's packages: mixed,
                                                  and for speed alone English documents and code
    tokenizer_ids.py train FOLDER [SCALE]         trains vocabularies on it: gpt2, cl100k, qwen, o200k
    tokenizer_ids.py check FOLDER BENCH [REPEATS] compares every *.json and *.tiktoken in FOLDER

Needs the Python packages tokenizers and tiktoken (scripts/check-tokenizers installs them). A rank
file is named PATTERN*.tiktoken, such as cl100k_base.tiktoken. Ends with 1 when an id differs.
"""
import array
import base64
import glob
import gettext
import gzip
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
import unicodedata

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL,
    "qwen": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL,
    "o200k": "|".join([f"{UPPER}*{LOWER}+{CONTRACTIONS}?", f"{UPPER}+{LOWER}*{CONTRACTIONS}?",
                       r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+",
                       r"\s+(?!\S)", r"\s+"]),
}
SIZES = {"gpt2": 50256, "cl100k": 100256, "qwen": 151643, "o200k": 199998}
EDGE = ["", " ", "\n", "'S", "'\u017f", "'LL", "\u212a", "\u180e", " \u180e a", "\u00a0\u3000 x",
        "\x85\x0b\x0c", "\r\n\r\n", "a\u0301", "\u1e9b\u0323", "\ufeff", "\u200d", "\ud7a3",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "1234567", "\u0663\u0664",
        "\u2167", "\u00bd", "<|endoftext|>", "<|im_start|>", "//\n/", "it's IT'S", "\x00\x01",
        "\uac01", "\u1100\u1161\u11a8", "\ufb01", "\u03a9\u2126", "e\u0301\u0327", "_", "__init__"]


def chunks(data, rng):
    """Pieces of a text, cut anywhere between two bytes: such a cut breaks characters."""
    at = 0
    while at < len(data):
        size = rng.randrange(500, 40000)
        yield data[at:at + size]
        at += size


def corpus(folder, megabytes):
    rng = random.Random(7)
    documents = []

    def take(paths, limit):
        paths = sorted(paths)
        rng.shuffle(paths)
        got = 0
        for path in paths:
            if got >= limit:
                break
            try:
                if os.path.islink(path) or os.path.getsize(path) > 8 << 20:
                    continue
                data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read(4 << 20)
            except OSError:
                continue
            documents.extend(chunks(data, rng))
            got += len(data)
        print(f"{limit / 1e6:.0f} MB asked, {got / 1e6:.1f} MB found, such as {paths[:1]}")

    def files(pattern):
        return [p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)]

    def write(name, texts):
        with open(f"{folder}/{name}.txt", "wb") as text:
            text.write(b"".join(texts))
        with open(f"{folder}/{name}.len", "wb") as lengths:
            lengths.write(b"".join(len(t).to_bytes(8, "little") for t in texts))

    share = int(megabytes * 1e6)
    take([p for p in files("/usr/share/doc/**/*") if not p.endswith((".png", ".svg"))],
         share * 18 // 100)
    take(files("/usr/include/**/*.h") + files("/usr/include/**/*.hpp"), share * 12 // 100)
    take(files("/usr/lib/python3*/**/*.py"), share * 15 // 100)
    write("plain", [d for d in documents if d and valid(d)])
    take(files("/usr/share/perl*/**/*.p[lm]"), share * 5 // 100)
    wide = "zh_CN zh_TW zh_HK ar ja ko ru uk el he fa hi th bn ta te ka am my km".split()
    for languages, percent in ((wide, 38), (["de", "fr", "vi", "tr", "pl", "cs"], 6)):
        limit, got = share * percent // 100, 0
        paths = [p for l in languages for p in files(f"/usr/share/locale/{l}/**/*.mo")]
        rng.shuffle(paths)
        for path in paths:
            if got >= limit:
                break
            try:
                catalog = gettext.GNUTranslations(open(path, "rb"))._catalog
            except (OSError, UnicodeDecodeError, ValueError):
                continue
            text = "\n".join(v for v in catalog.values() if isinstance(v, str)).encode()
            documents.extend(chunks(text, rng))
            got += len(text)
        print(f"{limit / 1e6:.0f} MB asked, {got / 1e6:.1f} MB found in translations")
    known = [c for c in range(0x110000)
             if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    pictures = [c for c in known if 0x1F300 <= c < 0x1FB00 or 0x2600 <= c < 0x27C0]
    pictures += [0x200D, 0xFE0F, 0x20] * 20
    for points, percent in ((known, 2), (pictures, 2)):
        got = 0
        while got < share * percent // 100:
            data = "".join(chr(rng.choice(points)) for _ in range(4000)).encode()
            documents.append(data)
            got += len(data)
    got = 0
    while got < share * 2 // 100:
        parts = []
        for _ in range(2000):
            parts.append(rng.choice(EDGE).encode("utf-8", "surrogatepass"))
            parts.append(rng.choice([b"", b" ", b"a", b"\n", bytes([rng.randrange(256)]),
                                     rng.randbytes(rng.randrange(5)), b" " * rng.randrange(40)]))
        documents.append(b"".join(parts))
        got += len(documents[-1])
    for size in (100, 5000, 200000):
        for unit in (b"a", b" ", b"\n", b"ab", b"\xe4\xb8\xad", b"=", b"7", b"\xf0\x9f\x98\x80"):
            documents.append(unit * size)
    rng.shuffle(documents)
    documents = [d for d in documents if d]
    write("corpus", documents)
    broken = sum(not valid(d) for d in documents)
    print(f"{sum(map(len, documents)) / 1e6:.1f} MB in {len(documents)} documents, "
          f"{broken} with broken UTF-8")


def valid(data):
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False


def read_corpus(folder, name="corpus"):
    data = open(f"{folder}/{name}.txt", "rb").read()
    lengths = open(f"{folder}/{name}.len", "rb").read()
    documents, at = [], 0
    for i in range(0, len(lengths), 8):
        size = int.from_bytes(lengths[i:i + 8], "little")
        documents.append(data[at:at + size].decode("utf-8", "replace"))
        at += size
    return len(data), documents


def train(folder, scale):
    from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                            pre_tokenizers, trainers)
    # Runs of one character are for the check; as words to learn from they take for ever.
    documents = [d for d in read_corpus(folder)[1] if len(d) < 50000][::3]
    for name, pattern in PATTERNS.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=name != "gpt2"))
        if name == "qwen":
            tokenizer.normalizer = normalizers.NFC()
        if name == "gpt2":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
                pre_tokenizers.Split(Regex(pattern), "isolated", False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        start = time.time()
        tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
            vocab_size=int(SIZES[name] * scale), show_progress=False, max_token_length=40,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        ranks = {bytes_of(t): i for t, i in tokenizer.get_vocab().items()}
        with open(f"{folder}/{name}-trained.tiktoken", "wb") as file:
            for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
                file.write(base64.b64encode(token) + b" %d\n" % rank)
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False, special=True),
                                      AddedToken("<|im_start|>", special=True, rstrip=True)])
        tokenizer.add_tokens([AddedToken("__init__", single_word=True),
                              AddedToken("import", lstrip=True, normalized=False),
                              AddedToken("e\u0301", normalized=True),
                              AddedToken("\u6587\u4ef6", rstrip=True, lstrip=True)])
        tokenizer.save(f"{folder}/{name}-trained.json")
        print(f"{name}: {len(ranks)} tokens trained in {time.time() - start:.0f} s", flush=True)


def bytes_of(token):
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in printable]
    table.update({chr(256 + i): b for i, b in enumerate(others)})
    return bytes(table[c] for c in token)


def reference_of(path, special):
    """A function from text to ids, and whether special tokens can be switched."""
    if path.endswith(".json"):
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(path)
        tokenizer.encode_special_tokens = not special
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    import tiktoken
    name = re.match("[a-z0-9]+", os.path.basename(path)).group()
    name = {"r50k": "gpt2", "p50k": "gpt2"}.get(name, name)
    ranks = {}
    for line in open(path, "rb"):
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    native = {"gpt2": "r50k_pat_str"}
    import tiktoken_ext.openai_public as public
    pattern = getattr(public, native[name]) if name in native else PATTERNS[name]
    if name == "cl100k":
        pattern = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
                   r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens={"<|endoftext|>": max(ranks.values()) + 1000})
    if name == "qwen":
        return lambda text: encoding.encode_ordinary(unicodedata.normalize("NFC", text))
    return encoding.encode_ordinary


def check(folder, bench, repeats):
    texts = {"corpus": read_corpus(folder)}
    if os.path.exists(f"{folder}/plain.len"):
        texts["plain"] = read_corpus(folder, "plain")
    differ = False
    for path in sorted(glob.glob(f"{folder}/*.json") + glob.glob(f"{folder}/*.tiktoken")):
        if path.endswith(".json"):
            differ |= compare(folder, bench, path, "corpus", texts["corpus"], repeats, False)
            differ |= compare(folder, bench, path, "corpus", texts["corpus"], 1, True)
            continue
        for text, content in texts.items():
            differ |= compare(folder, bench, path, text, content, repeats, False)
    return 1 if differ else 0


def compare(folder, bench, path, text, content, repeats, special):
    """Whether any id differs, or there are none."""
    n_bytes, documents = content
    label = f"{os.path.basename(path)}, {text}{' with special tokens' if special else ''}"
    name = path
    if path.endswith("-trained.tiktoken"):
        name += ":" + re.match("[a-z0-9]+", os.path.basename(path)).group()
    reference = reference_of(path, special)
    command = [bench, name, f"{folder}/{text}.txt", f"{folder}/{text}.len", f"{folder}/ids", "3"]
    ours, theirs = [], []
    for _ in range(repeats):  # in turns, for other programs disturb both
        result = subprocess.run(command + (["special"] if special else []), capture_output=True,
                                text=True)
        if result.returncode != 0:
            print(f"{label}: {result.stderr.strip()}", flush=True)
            return True
        ours.append(float(re.search(r"median ([0-9.]+) MB/s", result.stdout).group(1)))
        start = time.thread_time()
        expected = [reference(document) for document in documents]
        theirs.append(n_bytes / 1e6 / (time.thread_time() - start))
    ids = open(f"{folder}/ids", "rb").read()
    at, differing, n_ids, shown = 0, 0, 0, 0
    for document, wanted in zip(documents, expected):
        count = int.from_bytes(ids[at:at + 8], "little")
        got = array.array("i", ids[at + 8:at + 8 + 4 * count]).tolist()
        at += 8 + 4 * count
        n_ids += len(wanted)
        if got != wanted:
            same = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b),
                        min(len(got), len(wanted)))
            differing += max(len(got), len(wanted)) - same
            if shown < 3:
                shown += 1
                print(f"  differs at id {same} of {len(wanted)}: {got[same:same + 6]} for "
                      f"{wanted[same:same + 6]} in {document[:60]!r}")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(f"{label}: {differing} of {n_ids} ids differ over {n_bytes / 1e6:.1f} MB; ours "
          f"{statistics.median(ours):.1f} MB/s, reference {statistics.median(theirs):.2f} MB/s, "
          f"{ratio:.1f} times", flush=True)
    return differing > 0


def main():
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    action, folder, *rest = sys.argv[1:] if len(sys.argv) > 2 else ("help", "")
    if action == "corpus":
        corpus(folder, float(rest[0]) if rest else 60)
    elif action == "train":
        train(folder, float(rest[0]) if rest else 1.0)
    elif action == "check":
        return check(folder, rest[0], int(rest[1]) if len(rest) > 1 else 3)
    else:
        sys.stderr.write(__doc__)
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
