#!/usr/bin/env python3
"""Writes gpt2, llama and qwen.safetensors: tiny models as PyTorch and Hugging Face see them.

Arguments: which of them; default: all.

Everything is computed in float64 from parameters that are exact in float32, so that the files are
the truth and a float32 program is the one that rounds. README.md lists what a file holds.
"""

import json
import math
import pathlib
import platform
import sys

import safetensors.numpy
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

VOCAB, LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 257, 3, 48, 6, 2, 8, 80
BATCH, SEQUENCE, EPS = 2, 16, 1e-5
STEPS, LR, BETAS, ADAM_EPS, WEIGHT_DECAY, CLIP = 10, 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0


def make_gpt2():
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCAB, n_positions=SEQUENCE, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS,
        layer_norm_epsilon=EPS, activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, use_cache=False,
        attn_implementation="sdpa"))


def make_llama():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, max_position_embeddings=SEQUENCE, hidden_size=HIDDEN,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM, intermediate_size=FFN, rope_theta=10000.0, rms_norm_eps=EPS,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, use_cache=False,
        attn_implementation="sdpa"))


# The third model has what Qwen 2 and 3 and Llama 3.1 add to Llama, all at once, and other sizes.
QWEN = {"layers": 2, "hidden": 24, "heads": 6, "kv_heads": 2, "head_dim": 10, "ffn": 42,
        "vocab": 97}
QWEN_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def make_qwen():
    from transformers import Qwen3Config, Qwen3ForCausalLM
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=QWEN["vocab"], max_position_embeddings=SEQUENCE, hidden_size=QWEN["hidden"],
        num_hidden_layers=QWEN["layers"], num_attention_heads=QWEN["heads"],
        num_key_value_heads=QWEN["kv_heads"], head_dim=QWEN["head_dim"],
        intermediate_size=QWEN["ffn"], rope_parameters=QWEN_ROPE, rms_norm_eps=EPS,
        attention_bias=True, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        use_cache=False, attn_implementation="sdpa"))
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias = None  # attention_bias means this one too
    return model


def llama3_frequencies(rope, head_dim):
    """As the Llama 3.1 report has them, in double."""
    for i in range(0, head_dim, 2):
        frequency = rope["rope_theta"] ** (-i / head_dim)
        wavelength = 2 * math.pi / frequency
        original = rope["original_max_position_embeddings"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        if wavelength > original / low:
            yield frequency / rope["factor"]
        elif wavelength < original / high:
            yield frequency
        else:
            smooth = (original / wavelength - low) / (high - low)
            yield (1 - smooth) * frequency / rope["factor"] + smooth * frequency


class DoubleRotary(torch.nn.Module):
    """Cosines and sines in the type of the activations; the library's are always float32."""

    def __init__(self, frequencies):
        super().__init__()
        self.frequencies = torch.tensor(frequencies, dtype=torch.float64)

    def forward(self, x, position_ids):
        angle = position_ids[..., None].double() * self.frequencies
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def in_full_precision(model):
    """Replaces the parts that round to float32 whatever the model's type."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ in ("LlamaRMSNorm", "Qwen3RMSNorm"):
                norm = torch.nn.RMSNorm(len(child.weight), eps=EPS, dtype=child.weight.dtype)
                norm.weight = child.weight
                setattr(parent, name, norm)
            elif type(child).__name__ == "LlamaRotaryEmbedding":
                exponents = range(0, HEAD_DIM, 2)
                setattr(parent, name, DoubleRotary([10000.0 ** (-i / HEAD_DIM) for i in exponents]))
            elif type(child).__name__ == "Qwen3RotaryEmbedding":
                frequencies = llama3_frequencies(QWEN_ROPE, QWEN["head_dim"])
                setattr(parent, name, DoubleRotary(list(frequencies)))
    return model


def randomize(model, generator):
    """Large enough that every gradient matters; norms near one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            is_norm_weight = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(0.2 * noise + (1.0 if is_norm_weight else 0.0))


def gpt2_names(tensor_of):
    """Our name -> tensor; Conv1D stores [in, out], we keep [out, in]."""
    yield "embedding.token.weight", tensor_of("transformer.wte.weight")
    yield "embedding.position.weight", tensor_of("transformer.wpe.weight")
    for i in range(LAYERS):
        ours, theirs = f"layers.{i}", f"transformer.h.{i}"
        for kind in ("weight", "bias"):
            for our, their in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
                yield f"{ours}.{our}.{kind}", tensor_of(f"{theirs}.{their}.{kind}")
            joint = tensor_of(f"{theirs}.attn.c_attn.{kind}").t()
            for our, part in zip(("query", "key", "value"), joint.split(HIDDEN)):
                yield f"{ours}.attention.{our}.{kind}", part
            for our, their in (("attention.output", "attn.c_proj"), ("mlp.up", "mlp.c_fc"),
                               ("mlp.down", "mlp.c_proj")):
                yield f"{ours}.{our}.{kind}", tensor_of(f"{theirs}.{their}.{kind}").t()
    for kind in ("weight", "bias"):
        yield f"final_norm.{kind}", tensor_of(f"transformer.ln_f.{kind}")


def llama_names(tensor_of, layers=LAYERS):
    yield "embedding.token.weight", tensor_of("model.embed_tokens.weight")
    for i in range(layers):
        for our, their in (
                ("attention_norm", "input_layernorm"), ("attention.query", "self_attn.q_proj"),
                ("attention.key", "self_attn.k_proj"), ("attention.value", "self_attn.v_proj"),
                ("attention.output", "self_attn.o_proj"),
                ("mlp_norm", "post_attention_layernorm"), ("mlp.gate", "mlp.gate_proj"),
                ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj")):
            yield f"layers.{i}.{our}.weight", tensor_of(f"model.layers.{i}.{their}.weight")
    yield "final_norm.weight", tensor_of("model.norm.weight")
    yield "head.weight", tensor_of("lm_head.weight")


def qwen_names(tensor_of):
    yield from llama_names(tensor_of, QWEN["layers"])
    for i in range(QWEN["layers"]):
        ours, theirs = f"layers.{i}.attention", f"model.layers.{i}.self_attn"
        for our, their in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            yield f"{ours}.{our}.bias", tensor_of(f"{theirs}.{their}.bias")
        for our, their in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
            yield f"{ours}.{our}.weight", tensor_of(f"{theirs}.{their}.weight")


def sizes_of(family):
    if family == "qwen":
        return {
            "family": "llama", "layers": QWEN["layers"], "hidden": QWEN["hidden"],
            "heads": QWEN["heads"], "kv_heads": QWEN["kv_heads"], "head_dim": QWEN["head_dim"],
            "ffn_hidden": QWEN["ffn"], "vocab_size": QWEN["vocab"],
            "max_sequence_length": SEQUENCE, "tie_embeddings": False,
            "rope_theta": QWEN_ROPE["rope_theta"], "norm_eps": EPS, "qkv_bias": True,
            "qk_norm": True, "rope_scaling": QWEN_ROPE}
    return {
        "family": family, "layers": LAYERS, "hidden": HIDDEN, "heads": HEADS,
        "kv_heads": HEADS if family == "gpt2" else KV_HEADS, "head_dim": HEAD_DIM,
        "ffn_hidden": 4 * HIDDEN if family == "gpt2" else FFN, "vocab_size": VOCAB,
        "max_sequence_length": SEQUENCE, "tie_embeddings": family == "gpt2",
        "rope_theta": 10000.0, "norm_eps": EPS}


def loss_of(model, tokens, labels):
    logits = model(input_ids=tokens).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def run(model, names, tokens, labels):
    """Forward, backward and STEPS optimizer steps on one batch."""
    def stored(prefix, tensor_of):
        return {f"{prefix}/{name}": tensor.detach().clone() for name, tensor in names(tensor_of)}

    model.train()
    parameters = dict(model.named_parameters())
    out = stored("parameter", parameters.__getitem__)
    matrices = [p for p in parameters.values() if p.dim() == 2]
    vectors = [p for p in parameters.values() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY},
         {"params": vectors, "weight_decay": 0.0}],
        lr=LR, betas=BETAS, eps=ADAM_EPS, foreach=False, fused=False)
    losses, grad_norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        logits, loss = loss_of(model, tokens, labels)
        loss.backward()
        if step == 0:
            out["logits"], out["loss"] = logits.detach(), loss.detach()
            out |= stored("gradient", lambda name: parameters[name].grad)
        # Not clip_grad_norm_, which adds 1e-6 to the norm.
        norm = torch.stack([p.grad.square().sum() for p in parameters.values()]).sum().sqrt()
        for parameter in parameters.values():
            parameter.grad.mul_(torch.clamp(CLIP / norm, max=1.0))
        optimizer.step()
        losses.append(loss.item())
        grad_norms.append(norm.item())
    out |= stored("after10", parameters.__getitem__)
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out["grad_norms"] = torch.tensor(grad_norms, dtype=torch.float64)
    with torch.no_grad():
        out["loss_after10"] = loss_of(model, tokens, labels)[1]
    return out


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def check_against_library(make, truth, names, state, tokens, labels):
    """The library as it is, in float32, must agree: our replacements change rounding only.

    Key biases are left out: softmax does not see them, so their gradients are pure rounding.
    """
    model = make()
    model.load_state_dict(state)
    plain = run(model, names, tokens, labels)
    print("  the unchanged library in float32 differs by (norm of difference / norm):")
    for prefix in ("logits", "losses", "grad_norms", "gradient/", "after10/"):
        worst = max((relative(plain[k], truth[k]), k) for k in truth
                    if k.startswith(prefix) and ".key.bias" not in k)
        print(f"    {worst[0]:.1e}  {worst[1]}")
        assert worst[0] < 1e-5, f"{worst[1]} is off by {worst[0]}"


def main():
    folder = pathlib.Path(__file__).resolve().parent
    torch.set_num_threads(1)
    for family, make, names, seed in (("gpt2", make_gpt2, gpt2_names, 20),
                                      ("llama", make_llama, llama_names, 21),
                                      ("qwen", make_qwen, qwen_names, 22)):
        if sys.argv[1:] and family not in sys.argv[1:]:
            continue
        print(family)
        generator = torch.Generator().manual_seed(seed)
        vocabulary = sizes_of(family)["vocab_size"]
        text = torch.randint(vocabulary, (BATCH, SEQUENCE + 1), generator=generator)
        tokens, labels = text[:, :-1].contiguous(), text[:, 1:].contiguous()
        model = make()
        randomize(model, generator)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        truth = run(in_full_precision(model.double()), names, tokens, labels)
        check_against_library(make, truth, names, state, tokens, labels)

        wide = ("logits", "loss", "loss_after10", "losses", "grad_norms")
        file = {name: (tensor.double() if name in wide else tensor.float()).contiguous().numpy()
                for name, tensor in truth.items()}
        file["tokens"] = tokens.to(torch.int32).numpy()
        file["labels"] = labels.to(torch.int32).numpy()
        about = {
            "model": sizes_of(family),
            "optimizer": {
                "steps": STEPS, "lr": LR, "betas": BETAS, "eps": ADAM_EPS,
                "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP},
            "made_with": f"Python {platform.python_version()}, torch {torch.__version__}, "
                         f"transformers {transformers.__version__}",
        }
        path = folder / f"{family}.safetensors"
        # One metadata entry, because the library writes several in random order.
        safetensors.numpy.save_file(file, path, metadata={"about": json.dumps(about)})
        path.chmod(0o644)
        print(f"  losses {truth['losses'].tolist()}")
        print(f"  grad norms {truth['grad_norms'].tolist()}")
        print(f"  wrote {path.name}: {len(file)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
