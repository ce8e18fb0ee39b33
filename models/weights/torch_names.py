"""The common part of every family's `torch_entries`: name and layout of a leaf in PyTorch.

A family's own file has the names of its modules there; `pretrained` converts whole networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SUFFIXES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
# Convolutions are [height, width, in, out] here and [out, in, height, width] there; dense layers are transposed.
LAYOUTS = {4: (3, 2, 0, 1), 2: (1, 0)}


def torch_entry(modules: Sequence[str], collection: str, leaf: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Name and array in PyTorch of one leaf of a convolution, dense layer or normalization.

    Args:
      modules: names in torch of the modules around the leaf.
      collection: "params" or "batch_stats".
      leaf: "kernel", "scale", "bias", "mean" or "var".
      array: the leaf, in our layout.
    """
    if leaf == "kernel":
        array = array.transpose(LAYOUTS[array.ndim])
    return ".".join([*modules, SUFFIXES[collection, leaf]]), array
