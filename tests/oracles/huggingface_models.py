"""Makes tiny random models of every supported family with transformers, and what they compute.

    huggingface_models.py golden            writes tests/app/huggingface (needs torch, transformers)
    huggingface_models.py logits            only what the models there compute

Used by scripts/check-huggingface as well, with larger ones.
"""
import json
import math
import pathlib
import sys

import safetensors.torch
import torch
import transformers

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "app" / "huggingface"
SEQUENCE = 32
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def make(name, hidden, layers=5, heads=6, kv_heads=2, head_dim=4, ffn=10, vocab=257, length=128):
    """A model with random weights, norms and biases near one and zero."""
    common = dict(vocab_size=vocab, max_position_embeddings=length, hidden_size=hidden,
                  num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=kv_heads, head_dim=head_dim, intermediate_size=ffn,
                  bos_token_id=256, eos_token_id=256, use_cache=False)
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    torch.manual_seed(sum(map(ord, name)))
    if name == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=vocab, n_positions=length, n_embd=hidden, n_layer=layers, n_head=heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=256, eos_token_id=256))
    elif name == "llama2":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **common, rope_parameters=plain, tie_word_embeddings=False))
    elif name == "llama31":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **common, rope_parameters=LLAMA3_ROPE, rms_norm_eps=1e-5, tie_word_embeddings=True))
    elif name == "qwen2":
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
            **common, rope_parameters=plain | {"rope_theta": 1e6}, tie_word_embeddings=True))
    elif name == "qwen3":
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
            **common, rope_parameters=plain | {"rope_theta": 1e6}, tie_word_embeddings=False))
    else:
        raise ValueError(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_norm = parameter.dim() == 1 and key.endswith("weight")
            parameter.normal_(1.0 if is_norm else 0.0, 0.2)
    return model


NAMES = ["gpt2", "llama2", "llama31", "qwen2", "qwen3"]


def tokens_of(text):
    """A document as `trireme prepare` with the byte tokenizer makes it."""
    return torch.tensor(list(text) + [256])


def loss_of(model, tokens, sequence=SEQUENCE):
    """Mean over all tokens but the first, in windows, as `trireme eval` takes them; in float64."""
    model = model.double().eval()
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(tokens) - 1, sequence):
            window = tokens[begin:begin + sequence + 1]
            logits = model(input_ids=window[None, :-1]).logits[0].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (len(tokens) - 1)


def to_v4_keys(path):
    """The keys of a config.json as transformers 4 wrote them."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def golden_logits():
    """Of every fourth token of the text's first window, from float64."""
    tokens = tokens_of((GOLDEN / "text.txt").read_bytes())[None, :SEQUENCE]
    logits = {}
    for name in NAMES:
        model = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / name,
                                                                  dtype=torch.float32)
        with torch.no_grad():
            logits[name] = model.double().eval()(input_ids=tokens).logits[0, 3::4].float()
            logits[name] = logits[name].contiguous()
    safetensors.torch.save_file(logits, GOLDEN / "logits.safetensors")
    (GOLDEN / "logits.safetensors").chmod(0o644)


def golden():
    dtypes = {"llama2": torch.float16, "qwen2": torch.bfloat16}
    text = b"".join(b"line %d: some words, and %d more\n" % (i, i * i) for i in range(12))
    (GOLDEN / "text.txt").write_bytes(text)
    expected = {"sequence_length": SEQUENCE, "tokens": len(text), "loss": {},
                "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}"}
    for name in NAMES:
        model = make(name, 12).to(dtypes.get(name, torch.float32))
        folder = GOLDEN / name
        model.save_pretrained(folder, max_shard_size="15KB" if name == "qwen2" else "1GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        if name in ("gpt2", "llama2", "llama31"):
            to_v4_keys(folder / "config.json")
        expected["loss"][name] = loss_of(model, tokens_of(text))
        assert expected["loss"][name] < 2 * math.log(257)
    # As the hub's file has it: names without the prefix, and masks beside the weights.
    path = GOLDEN / "gpt2" / "model.safetensors"
    tensors = {key.removeprefix("transformer."): value
               for key, value in safetensors.torch.load_file(path).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 2, 2).tril()
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    golden_logits()
    for file in GOLDEN.glob("*/*"):
        file.chmod(0o644)
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    modes = {"golden": golden, "logits": golden_logits}
    if len(sys.argv) != 2 or sys.argv[1] not in modes:
        sys.exit(__doc__)
    modes[sys.argv[1]]()
