"""The comparison that scripts/check-huggingface runs.

    huggingface_check.py TRIREME FOLDER     FOLDER is emptied first

Ends with 1 when a loss or a logit differs by more than the bound. A difference of losses is relative
to transformers' loss in float64. Logits are compared over all windows at once: the largest absolute
difference of any of them, divided by the largest absolute logit that transformers computes.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import safetensors.torch
import torch
import transformers
from huggingface_models import NAMES, make, tokens_of

BOUND = 1e-5
SEQUENCE = 64
WINDOWS = 12
STEPS = 20
MESHES = {"1": [], "8": ["mesh.tensor=2", "mesh.pipeline=2", "mesh.data=2"]}


def trireme(program, folder, *arguments, processes=1):
    command = [str(program), *map(str, arguments)]
    if processes > 1:
        command = ["mpirun", "-n", str(processes), "--oversubscribe", "--bind-to", "none", *command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def windows():
    """Documents of exactly one window of tokens and a label more, all different."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(WINDOWS):
        yield bytes((32 + torch.randint(95, (SEQUENCE,), generator=generator)).tolist())


def likelihoods(model, tokens):
    """Of every token but the first, in float64, as they follow from the exported weights."""
    with torch.no_grad():
        logits = model(input_ids=tokens[None, :-1]).logits[0].double()
    return torch.log_softmax(logits, dim=-1).gather(1, tokens[1:, None])[:, 0], logits


def evaluate(program, folder, run, data):
    out = trireme(program, folder, "eval", "--checkpoint", run, "--data", data, "--json", "--set",
                  f"data.sequence_length={SEQUENCE}", "precision.compute=fp32", "device.threads=1")
    return json.loads(out)["loss"]


def compare(program, folder, run, exported):
    """The largest difference of a window's mean loss, transformers in float64 being the truth."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / exported,
                                                              dtype=torch.float32).double().eval()
    worst = 0.0
    for i, text in enumerate(windows()):
        theirs = -likelihoods(model, tokens_of(text))[0].mean().item()
        worst = max(worst, abs(evaluate(program, folder, run, f"window-{i}") - theirs) / theirs)
    return worst, model


def logits_difference(program, folder, run, exported, mesh):
    """Of the logits that a mesh computes, to transformers' in float64 and in float32, and between
    those two."""
    file = folder / f"{run}-on-{mesh}.safetensors"
    trireme(program, folder, "eval", "--checkpoint", run, "--data", "windows", "--logits", file,
            "--logits-windows", WINDOWS, "--set", f"data.sequence_length={SEQUENCE}",
            "precision.compute=fp32", "device.threads=1", *MESHES[mesh], processes=int(mesh))
    ours = safetensors.torch.load_file(file)
    assert ours["logits"].shape == (WINDOWS, SEQUENCE, 257), ours["logits"].shape
    all_theirs = []
    for dtype in torch.float64, torch.float32:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / exported,
                                                                  dtype=torch.float32)
        with torch.no_grad():
            all_theirs.append(model.to(dtype).eval()(input_ids=ours["tokens"]).logits.double())
    exact, single = all_theirs
    scale = exact.abs().max()
    return [((a - b).abs().max() / scale).item()
            for a, b in ((ours["logits"], exact), (ours["logits"], single), (single, exact))]


def train(program, folder, name, mesh):
    run = f"{name}-trained-{mesh}"
    trireme(program, folder, "train", f"{name}-run/config.yaml", "--set", f"run.steps={STEPS}",
            f"run.output={run}", f"checkpoint.resume={name}-run", "data.train=[{path: text}]",
            f"data.sequence_length={SEQUENCE}", "schedule.warmup_steps=0", "optimizer.lr=1e-3",
            "model.dropout=0", "device.threads=1", *MESHES[mesh], processes=int(mesh))
    trireme(program, folder, "export", "--checkpoint", run, "--output", run + "-hf")
    return run


def check(program, folder, name):
    head_dim = 10 if name != "gpt2" else 8
    model = make(name, 48, head_dim=head_dim, ffn=82, length=256)
    model.save_pretrained(folder / name)
    trireme(program, folder, "import", "--input", name, "--output", f"{name}-run")
    imported, _ = compare(program, folder, f"{name}-run", name)
    figures, models = {"imported": imported}, []
    logits = {"to float64": 0.0, "to float32": 0.0, "their float32 to float64": 0.0}

    def compare_logits(run, exported):
        for mesh in MESHES:
            differences = logits_difference(program, folder, run, exported, mesh)
            for pair, difference in zip(logits, differences):
                logits[pair] = max(logits[pair], difference)

    compare_logits(f"{name}-run", name)
    for mesh in MESHES:
        run = train(program, folder, name, mesh)
        figures[f"after {STEPS} steps on {mesh}"], trained = compare(program, folder, run,
                                                                    run + "-hf")
        models.append(trained)
        compare_logits(run, run + "-hf")
    for pair, difference in logits.items():
        figures[f"logits {pair}"] = difference
    # The two meshes' models, by what they compute.
    tokens = tokens_of(next(windows()))
    one, eight = (likelihoods(trained, tokens)[1] for trained in models)
    start = likelihoods(model.double().eval(), tokens)[1]
    moved = ((one - start).norm() / start.norm()).item()
    figures["logits, 8 against 1"] = ((eight - one).norm() / one.norm()).item()
    print(f"{name:8}", " | ".join(f"{key} {value:.1e}" for key, value in figures.items()),
          f"| training moved the logits by {moved:.2f}", flush=True)
    return max(figures.values()) <= BOUND and moved > 0.01


def main():
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; relative "
          f"differences, bound {BOUND}")
    (folder / "text.txt").write_text("".join(f"{i} and {i * i}, then {i % 7}\n"
                                             for i in range(3000)))
    trireme(program, folder, "prepare", "--input", "text.txt", "--output", "text")
    # One after the other, with ends of text between them.
    (folder / "windows.jsonl").write_text("".join(json.dumps({"text": text.decode()}) + "\n"
                                                  for text in windows()))
    trireme(program, folder, "prepare", "--input", "windows.jsonl", "--output", "windows")
    for i, text in enumerate(windows()):
        (folder / f"window-{i}.txt").write_bytes(text)
        trireme(program, folder, "prepare", "--input", f"window-{i}.txt", "--output", f"window-{i}")
    sys.exit(0 if all([check(program, folder, name) for name in NAMES]) else 1)


if __name__ == "__main__":
    main()
