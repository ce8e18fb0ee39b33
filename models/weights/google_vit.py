"""Vision transformers as Google published them, `.npz` files of flax parameters, under timm's names and layouts.

Files of google-research/vision_transformer have their arrays at the top, some under "opt/target/"; those of big_vision
under "params/", some with "img/". The two count the parts of a block differently, and big_vision stacks the blocks of a
network that was trained under scan.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from ...errors import InputError, listed

ROOTS = ("", "opt/target/", "params/", "params/img/")
TOP = {
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "cls": "cls_token",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "pos_embedding": "pos_embed",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}
# The parts of a block: those of google-research/vision_transformer, and those of big_vision.
PARTS = {
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",
    "LayerNorm_1": "norm2",
    "MultiHeadDotProductAttention_1/out": "attn.proj",
    "MultiHeadDotProductAttention_0/out": "attn.proj",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
    "MlpBlock_0/Dense_0": "mlp.fc1",
    "MlpBlock_0/Dense_1": "mlp.fc2",
}
BLOCK = re.compile(r"Transformer/encoderblock(?:_(\d+))?/(.+)/(kernel|bias|scale)")
QKV = re.compile(r"MultiHeadDotProductAttention_[01]/(query|key|value)")
MOST_PACKED, SMALL = 20, 2**26  # weights are noise, which packs to 0.9 of its size; below 64 MB that doesn't matter
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of Google's `.npz` under timm's names and in its layout.

    A hidden layer before the classifier ("pre_logits", of the first weights for ImageNet-21k) is left out together with
    the classifier that read it: a network that is fine-tuned gets another one.

    Raises: InputError if the file is no archive of arrays, or not one of a vision transformer of patches.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(SMALL, MOST_PACKED * path.stat().st_size):
            raise InputError(f"{path} would unpack to {unpacked:,} bytes, more than weights of its size do.")
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, EOFError, ValueError, MemoryError of a forged shape, …
        raise InputError(f"{path} is not a readable .npz file of arrays: {error}.") from error
    root = max((root for root in ROOTS if f"{root}embedding/kernel" in stored), key=len, default=None)
    if root is None:
        raise InputError(
            f"{path} is not a vision transformer of Google's: it has no embedding/kernel, but {listed(sorted(stored))}."
        )
    arrays = {name.removeprefix(root): array for name, array in stored.items() if name.startswith(root)}
    return _timm(arrays, path)


def _timm(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    hidden = any(name.startswith("pre_logits/") for name in arrays)
    found, unknown, thirds = {}, [], {}
    for name, array in arrays.items():
        block = BLOCK.fullmatch(name)
        if name.startswith("pre_logits/") or (hidden and name.startswith("head/")):
            continue
        if name in TOP:
            found[TOP[name]] = _layout(array)
        elif block is None:
            unknown.append(name)
        else:
            number, part, leaf = block.groups()
            stack = enumerate(array) if number is None else [(int(number), array)]
            for i, each in stack:
                if third := QKV.fullmatch(part):
                    thirds.setdefault((i, LEAVES[leaf]), {})[third[1]] = each
                elif part in PARTS:
                    joined = each.reshape(-1, each.shape[-1]) if part.endswith("/out") and leaf == "kernel" else each
                    found[f"blocks.{i}.{PARTS[part]}.{LEAVES[leaf]}"] = _layout(joined)
                else:
                    unknown.append(name)
    for (i, leaf), parts in thirds.items():
        if parts.keys() != {"query", "key", "value"}:
            raise InputError(f"{path} is damaged: block {i} has no query, key and value of its attention.")
        rows = [parts[name] for name in ("query", "key", "value")]  # [width, heads, features], or [heads, features]
        flat = [x.reshape(len(x), -1).T if leaf == "weight" else x.reshape(-1) for x in rows]
        found[f"blocks.{i}.attn.qkv.{leaf}"] = np.concatenate(flat)
    if unknown:
        raise InputError(f"{path} is another network than a vision transformer of patches: it has {listed(unknown)}.")
    return found


def _layout(array: np.ndarray) -> np.ndarray:
    return {4: lambda x: x.transpose(3, 2, 0, 1), 2: lambda x: x.T}.get(array.ndim, lambda x: x)(array)
