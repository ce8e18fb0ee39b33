"""Names of recurrent networks' weights in torch.nn.RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LEAVES = {
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
    name = f"{LEAVES[leaf]}_l{number}{'_reverse' if direction else ''}"
    return [(name, array.T if array.ndim == 2 else array)]
