"""The steps of benchmarks/transformer.py in PyTorch, timed on demand. Needs torch alone.

Reads a line of JSON, answers with a line of JSON, until its input ends:

    {"step": "decoder", "width": 256, "depth": 4, "num_heads": 4, "vocab_size": 6000, "batch": 64, "length": 32, …}
    {"decode": true, …, "batch": 16, "length": 64}  writes greedily, with keys and values kept
    {"time": 5}                                     seconds of so many of the last one

A step is that of AdamW (fused), zero_grad to None; a network that has not as many parameters as it was told is refused.
Each is made eager and compiled; "time" tells all modes that work. Encoder and decoder are `nn.Transformer`; the decoder
alone attends by `scaled_dot_product_attention`, and keeps keys and values in arrays of fixed size, as compiled loops
need.
"""

import math

import torch
from served import serve
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, x, kept=None, at=0):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if kept is None:
            found = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            kept[0][:, :, at : at + 1], kept[1][:, :, at : at + 1] = k, v
            found = nn.functional.scaled_dot_product_attention(q, kept[0][:, :, : at + 1], kept[1][:, :, : at + 1])
        x = x + self.proj(found.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def sincos(length, width):
    angles = torch.arange(length)[:, None] * 10_000 ** -(torch.arange(width // 2) * 2 / width)
    return torch.cat([angles.sin(), angles.cos()], -1)


class Decoder(nn.Module):
    def __init__(self, width, depth, num_heads, vocab_size, length):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.blocks, self.norm = nn.ModuleList(Block(width, num_heads) for _ in range(depth)), nn.LayerNorm(width, 1e-6)
        self.register_buffer("positions", sincos(length, width))

    def forward(self, tokens, kept=None, at=0):
        width = self.embed.weight.shape[1]
        x = self.embed(tokens) * math.sqrt(width) + self.positions[at : at + tokens.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[number], at)
        return nn.functional.linear(self.norm(x), self.embed.weight)


class Both(nn.Module):
    def __init__(self, width, depth, num_heads, vocab_size, length):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.body = nn.Transformer(
            width, num_heads, depth, depth, 4 * width, 0.0, "relu", batch_first=True, norm_first=True
        )
        self.register_buffer("positions", sincos(length, width))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, source, target):
        scale = math.sqrt(self.embed.weight.shape[1])
        source, target = (self.embed(each) * scale + self.positions for each in (source, target))
        x = self.body(source, target, tgt_mask=self.mask, tgt_is_causal=True)
        return nn.functional.linear(x, self.embed.weight)


def training_step(kind, parameters, batch, length, compiled, **size):
    model = Decoder(**size, length=length) if kind == "decoder" else Both(**size, length=length)
    assert sum(p.numel() for p in model.parameters()) == parameters
    run = torch.compile(model) if compiled else model
    source, target = torch.randint(8, size["vocab_size"], (2, batch, length))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step():
        logits = run(target) if kind == "decoder" else run(source, target)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def decoding(parameters, batch, length, compiled, **size):
    model = Decoder(**size, length=length).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    run = torch.compile(model, dynamic=True) if compiled else model
    shape = (batch, size["num_heads"], length, size["width"] // size["num_heads"])

    @torch.inference_mode()
    def write():
        kept = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(size["depth"])]
        tokens = torch.ones((batch, 1), dtype=torch.long)
        for at in range(length):
            tokens = run(tokens, kept, at)[:, -1].argmax(-1, keepdim=True)

    return write


def make(told):
    kind, decode = told.pop("step", None), told.pop("decode", False)
    return {
        name: decoding(compiled=compiled, **told) if decode else training_step(kind, compiled=compiled, **told)
        for name, compiled in {"eager": False, "compiled": True}.items()
    }


if __name__ == "__main__":
    serve(make)
