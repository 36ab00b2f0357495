#!/usr/bin/env python3
"""The peer of scripts/bench-gpu and bench-cpu: the same model, batch and step in PyTorch.

Compiled, fused attention, fused AdamW, gradient clipping. Prints lines of JSON, of which the last
one counts: on a GPU the uncompiled model is timed before the compiler starts.

    peer_torch.py FAMILY LAYERS HIDDEN HEADS KV_HEADS FFN VOCAB BATCH SEQUENCE MICRO_BATCHES STEPS
                  WEIGHTS [tied] [eager] [cpu THREADS [fp32]]

WEIGHTS: fp32 (bf16 autocast over fp32 weights and moments, as Trireme keeps them) or bf16 (weights
and moments in bf16: less memory traffic than Trireme, and less exact). cpu: on that many threads
instead of a GPU; fp32 there: without autocast. eager: without the compiler.
"""
import contextlib
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, hidden, heads, kv_heads, llama):
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.llama = heads, kv_heads, hidden // heads, llama
        self.qkv = nn.Linear(hidden, (heads + 2 * kv_heads) * self.dim, bias=not llama)
        self.out = nn.Linear(hidden, hidden, bias=not llama)

    def forward(self, x, rope):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).split(
            [self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.dim], dim=2)
        q = q.view(b, t, self.heads, self.dim).transpose(1, 2)
        k = k.view(b, t, self.kv_heads, self.dim).transpose(1, 2)
        v = v.view(b, t, self.kv_heads, self.dim).transpose(1, 2)
        if self.llama:
            q, k = rotate(q, rope), rotate(k, rope)
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return self.out(y.transpose(1, 2).reshape(b, t, -1))


def rotate(x, rope):
    cos, sin = rope
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn, llama):
        super().__init__()
        norm = nn.RMSNorm if llama else nn.LayerNorm
        self.norm1, self.norm2, self.llama = norm(hidden, eps=1e-5), norm(hidden, eps=1e-5), llama
        self.attention = Attention(hidden, heads, kv_heads, llama)
        self.up = nn.Linear(hidden, 2 * ffn if llama else ffn, bias=not llama)
        self.down = nn.Linear(ffn, hidden, bias=not llama)

    def forward(self, x, rope):
        x = x + self.attention(self.norm1(x), rope)
        y = self.up(self.norm2(x))
        if self.llama:
            gate, up = y.chunk(2, dim=-1)
            y = F.silu(gate) * up
        else:
            y = F.gelu(y, approximate="tanh")
        return x + self.down(y)


class Gpt(nn.Module):
    def __init__(self, family, layers, hidden, heads, kv_heads, ffn, vocab, sequence, tie):
        super().__init__()
        llama = family == "llama"
        self.llama = llama
        self.tokens = nn.Embedding(vocab, hidden)
        self.positions = None if llama else nn.Embedding(sequence, hidden)
        self.blocks = nn.ModuleList(
            Block(hidden, heads, kv_heads, ffn, llama) for _ in range(layers))
        self.norm = nn.RMSNorm(hidden, eps=1e-5) if llama else nn.LayerNorm(hidden, eps=1e-5)
        self.head = nn.Linear(hidden, vocab, bias=False)
        if tie:
            self.head.weight = self.tokens.weight
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        dim = hidden // heads
        angle = torch.outer(torch.arange(sequence),
                            500000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, labels):
        x = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, (self.cos, self.sin))
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def prefer_fast_attention(device):
    """On a GPU cuDNN's kernels first, the fastest on Hopper, whatever PyTorch's version prefers."""
    if device != "cuda":
        return contextlib.nullcontext()
    kinds = torch.nn.attention.SDPBackend
    order = [kinds.CUDNN_ATTENTION, kinds.FLASH_ATTENTION, kinds.EFFICIENT_ATTENTION, kinds.MATH]
    return torch.nn.attention.sdpa_kernel(order, set_priority=True)


def attention_kernels(device):
    """The first of the preferred kernels that take a small causal problem in bf16."""
    if device != "cuda":
        return None
    kinds = torch.nn.attention.SDPBackend
    x = torch.ones(1, 2, 128, 64, device=device, dtype=torch.bfloat16)
    for kind in (kinds.CUDNN_ATTENTION, kinds.FLASH_ATTENTION, kinds.EFFICIENT_ATTENTION):
        try:
            with torch.nn.attention.sdpa_kernel(kind):
                F.scaled_dot_product_attention(x, x, x, is_causal=True)
        except RuntimeError:
            continue
        return f"{kind.name}, cuDNN {torch.backends.cudnn.version()}"
    return None


def main():
    family = sys.argv[1]
    (layers, hidden, heads, kv_heads, ffn, vocab, batch, sequence, micro_batches,
     steps) = map(int, sys.argv[2:12])
    weights = sys.argv[12]
    more = sys.argv[13:]
    device = "cpu" if "cpu" in more else "cuda"
    if device == "cpu":
        torch.set_num_threads(int(more[more.index("cpu") + 1]))
    autocast = weights == "fp32" and "fp32" not in more
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    padded = -(-vocab // 128) * 128  # as its users do, for speed
    with torch.device(device):
        model = Gpt(family, layers, hidden, heads, kv_heads, ffn, padded, sequence, "tied" in more)
    if weights == "bf16":
        model = model.to(torch.bfloat16)
        model.cos, model.sin = model.cos.float(), model.sin.float()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    eager = "eager" in more
    run = model
    ids = (torch.arange(batch * sequence, device=device) * 7919 % vocab).view(batch, sequence)

    def step():
        for _ in range(micro_batches):
            with prefer_fast_attention(device), \
                    torch.autocast(device, torch.bfloat16, enabled=autocast):
                loss = run(ids, ids) / micro_batches
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item() * micro_batches

    def measure(compiled, warm_up, steps):
        for _ in range(warm_up):
            loss = step()
        seconds = []
        for _ in range(steps):
            begin = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - begin)
        median = statistics.median(seconds)
        print(json.dumps({
            "trainer": f"PyTorch {torch.__version__}, " + ("compiled" if compiled else "eager")
                       + f", {weights} weights"
                       + (", bf16 autocast" if autocast else ""),
            "attention": attention_kernels(device),
            "layers": layers, "batch": batch, "sequence": sequence,
            "micro_batches": micro_batches,
            "step_seconds": median, "step_seconds_min": min(seconds),
            "step_seconds_max": max(seconds),
            "tokens_per_second": batch * sequence * micro_batches / median,
            "peak_memory_bytes":
                torch.cuda.max_memory_allocated() if device == "cuda" else None,
            "last_loss": loss}), flush=True)

    if eager:
        measure(False, 3, steps)
        return
    if device == "cuda":
        try:
            measure(False, 1, 2)  # what is left when compiling takes too long
        except torch.OutOfMemoryError as error:  # it needs more than the compiled model
            print("uncompiled:", error, file=sys.stderr)
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run = torch.compile(model)
    measure(True, 3, steps)


if __name__ == "__main__":
    main()
