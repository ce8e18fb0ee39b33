"""Names of VGG's weights in torchvision, and in timm, whose dense layers are convolutions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .alexnet_names import flattened
from .torch_names import torch_entry

TORCH_HEAD = {"dense1": "classifier.0", "dense2": "classifier.3", "output": "classifier.6"}
TIMM_HEAD = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}


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


def torchvision_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of timm's VGG under torchvision's names; another one as it is.

    timm's first dense layers are convolutions of 7×7 and 1×1 pixels, whose kernels torchvision has as rows.
    """
    present = {}
    for name, array in state_dict.items():
        layer, _, leaf = name.rpartition(".")
        renamed = TIMM_HEAD.get(layer)
        array = np.asarray(array)
        present[f"{renamed}.{leaf}" if renamed else name] = flattened(array) if renamed else array
    return present
