"""Names of the weights of torchvision's segmentation networks: a ResNet below "backbone", and heads."""

from __future__ import annotations

import numpy as np

from . import resnet_names
from .torch_names import torch_entry

# Where torchvision's Sequentials, which count ReLU and dropout too, have the layers of a head.
PLACES = {"conv": "0", "bn": "1", "output": "4"}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Names and arrays in torchvision's `fcn_resnet50` of one of our leaves: one for each block of a stage.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, first, *inner, leaf = path
    if first == "backbone":
        below = resnet_names.torch_entries((collection, *inner, leaf), array)
        return [(f"backbone.{name}", part) for name, part in below]
    head, _, layer = first.rpartition("_")
    return [torch_entry([head, PLACES[layer]], collection, leaf, array)]
