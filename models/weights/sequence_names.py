"""Names of weights in torch: of recurrent networks in torch.nn, and of text encoders in transformers' BERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RECURRENT = {
    "input_kernel": "weight_ih",
    "hidden_kernel": "weight_hh",
    "input_bias": "bias_ih",
    "hidden_bias": "bias_hh",
}


def recurrent_entries(path: Sequence[str], array: Any) -> list[tuple[str, Any]]:
    """Name and array in torch's state dict of one of our leaves; gates have the same order.

    Args:
      path: the leaf's place in our variables, such as ("params", "layer0_reverse", "hidden_kernel").
      array: the leaf, or anything with its shape that can be transposed.
    """
    _, layer, leaf = path
    number, _, direction = layer.removeprefix("layer").partition("_")
    name = f"{RECURRENT[leaf]}_l{number}{'_reverse' if direction else ''}"
    return [(name, array.T if array.ndim == 2 else array)]


BERT = {
    "embed": "embeddings.word_embeddings",
    "type_embed": "embeddings.token_type_embeddings",
    "pos_embed": "embeddings.position_embeddings",
    "embed_norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
    "proj": "attention.output.dense",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
}


def bert_entries(path: Sequence[str], array: Any) -> list[tuple[str, Any]]:
    """Names and arrays in BERT's state dict of one of our leaves: one, or those of every block of the stack.

    Args:
      path: the leaf's place in our variables, such as ("params", "encoder", "blocks", "attn", "qkv", "kernel").
      array: the leaf, or anything with its shape that can be transposed and indexed.
    """
    _, *modules, leaf = path
    if leaf in ("embedding", "pos_embed"):
        return [(f"{BERT[leaf if leaf == 'pos_embed' else modules[0]]}.weight", array)]
    suffix = "bias" if leaf == "bias" else "weight"

    def turned(x: Any) -> Any:
        return x.T if leaf == "kernel" else x

    if "blocks" not in modules:
        return [(f"{BERT[modules[-1]]}.{suffix}", turned(array))]
    entries = []
    for i in range(len(array)):
        layer = f"encoder.layer.{i}"
        if modules[-1] != "qkv":
            entries.append((f"{layer}.{BERT[modules[-1]]}.{suffix}", turned(array[i])))
            continue
        width = array[i].shape[-1] // 3
        for part, name in enumerate(("query", "key", "value")):
            own = array[i][..., part * width : (part + 1) * width]
            entries.append((f"{layer}.attention.self.{name}.{suffix}", turned(own)))
    return entries


def without_position_ids(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the numbers of the positions, which older files store."""
    return {name: x for name, x in state_dict.items() if not name.endswith("position_ids")}
