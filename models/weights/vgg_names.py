"""Names of VGG's weights in torchvision."""

from __future__ import annotations

import numpy as np

from .alexnet_names import flattened
from .torch_names import torch_entry

TORCH_HEAD = {"dense1": "classifier.0", "dense2": "classifier.3", "output": "classifier.6"}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and array in torchvision's VGG of one of our leaves.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, *modules, leaf = path
    if modules[0] == "head":
        name, array = torch_entry([TORCH_HEAD.get(modules[1], modules[1])], collection, leaf, array)
        return [(name, flattened(array))]
    return [torch_entry([modules[0].replace("_", ".")], collection, leaf, array)]
