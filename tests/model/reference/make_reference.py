#!/usr/bin/env python3
"""Writes gpt2.safetensors and llama.safetensors: tiny models as PyTorch and Hugging Face see them.

Everything is computed in float64 from parameters that are exact in float32, so that the files are
the truth and a float32 program is the one that rounds. README.md lists what a file holds.
"""

import json
import pathlib
import platform

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


class DoubleRotary(torch.nn.Module):
    """Cosines and sines in the type of the activations; the library's are always float32."""

    def forward(self, x, position_ids):
        exponent = torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM
        angle = position_ids[..., None].double() * 10000.0 ** -exponent
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def in_full_precision(model):
    """Replaces the parts that round to float32 whatever the model's type."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                norm = torch.nn.RMSNorm(HIDDEN, eps=EPS, dtype=child.weight.dtype)
                norm.weight = child.weight
                setattr(parent, name, norm)
            elif type(child).__name__ == "LlamaRotaryEmbedding":
                setattr(parent, name, DoubleRotary())
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


def llama_names(tensor_of):
    yield "embedding.token.weight", tensor_of("model.embed_tokens.weight")
    for i in range(LAYERS):
        for our, their in (
                ("attention_norm", "input_layernorm"), ("attention.query", "self_attn.q_proj"),
                ("attention.key", "self_attn.k_proj"), ("attention.value", "self_attn.v_proj"),
                ("attention.output", "self_attn.o_proj"),
                ("mlp_norm", "post_attention_layernorm"), ("mlp.gate", "mlp.gate_proj"),
                ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj")):
            yield f"layers.{i}.{our}.weight", tensor_of(f"model.layers.{i}.{their}.weight")
    yield "final_norm.weight", tensor_of("model.norm.weight")
    yield "head.weight", tensor_of("lm_head.weight")


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
                                      ("llama", make_llama, llama_names, 21)):
        print(family)
        generator = torch.Generator().manual_seed(seed)
        text = torch.randint(VOCAB, (BATCH, SEQUENCE + 1), generator=generator)
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
            "model": {
                "family": family, "layers": LAYERS, "hidden": HIDDEN, "heads": HEADS,
                "kv_heads": HEADS if family == "gpt2" else KV_HEADS, "head_dim": HEAD_DIM,
                "ffn_hidden": 4 * HIDDEN if family == "gpt2" else FFN, "vocab_size": VOCAB,
                "max_sequence_length": SEQUENCE, "tie_embeddings": family == "gpt2",
                "rope_theta": 10000.0, "norm_eps": EPS},
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
