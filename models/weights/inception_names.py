"""Names of the weights of pytorch-fid's Inception network."""

from __future__ import annotations

import numpy as np

from .torch_names import torch_entry


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and array in pytorch-fid's network of one of our leaves.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, *modules, leaf = path
    if leaf == "kernel" and modules != ["fc"]:
        modules.append("conv")
    return [torch_entry(modules, collection, leaf, array)]
