"""Names of AlexNet's weights in torchvision."""

from __future__ import annotations

import numpy as np

from .torch_names import torch_entry

# Where torchvision's Sequentials, which count ReLU, pooling and dropout too, have our layers. A third hidden layer,
# which it lacks, keeps its name.
TORCH_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "output": "classifier.6",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and array in torchvision's AlexNet of one of our leaves.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, *modules, leaf = path
    name, array = torch_entry([TORCH_NAMES.get(modules[-1], modules[-1])], collection, leaf, array)
    return [(name, flattened(array) if modules[0] == "head" else array)]


def flattened(array: np.ndarray) -> np.ndarray:
    """A leaf of `Head` in torch's layout, [features, channel, height, width], as its Flatten has it: one row each."""
    return array.reshape(len(array), -1) if array.ndim > 1 else array
