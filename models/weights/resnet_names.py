"""Names of ResNet's weights in torchvision (ResNet) and timm (ResNet-D, pre-activation networks).

Networks for CIFAR-10 are published under other names for two layers (kuangliu/pytorch-cifar,
akamaster/pytorch_resnet_cifar10), which are read as torchvision's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .torch_names import torch_entry

# torchvision's and timm's names where they are not ours. Their Sequentials count ReLU and pooling too.
TORCH_NAMES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "pooled_conv": "downsample.1",
    "pooled_bn": "downsample.2",
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
}


PREACT_INNER_NAMES = {"downsample_conv": "downsample.conv", "pooled_conv": "downsample.conv"}


PREACT_TORCH_NAMES = {
    "conv1": "stem.conv",
    "stem_conv1": "stem.conv1",
    "stem_bn1": "stem.norm1",
    "stem_conv2": "stem.conv2",
    "stem_bn2": "stem.norm2",
    "stem_conv3": "stem.conv3",
    "fc": "head.fc",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Names and arrays in torchvision's ResNet, or timm's ResNet-D, of one of our leaves: one for each block.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, *modules, leaf = path
    named = [TORCH_NAMES.get(module, module) for module in modules]
    if stage := _stage_of(modules):
        return [
            torch_entry([f"layer{stage}", str(block), *named[1:]], collection, leaf, part)
            for block, part in _blocks(modules, array)
        ]
    return [torch_entry(named, collection, leaf, array)]


def torchvision_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict with the head "linear" and the projections "shortcut" under torchvision's names; others as they are.

    >>> list(torchvision_names({"layer2.0.shortcut.0.weight": 0, "linear.bias": 0, "layer1.0.conv1.weight": 0}))
    ['layer2.0.downsample.0.weight', 'fc.bias', 'layer1.0.conv1.weight']
    """
    return {
        re.sub(r"^linear\.", "fc.", re.sub(r"^(layer\d+\.\d+)\.shortcut\.", r"\1.downsample.", name)): array
        for name, array in state_dict.items()
    }


def preact_torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """`torch_entries` for timm's `resnetv2` networks, whose classifier is a 1×1 convolution."""
    collection, *modules, leaf = path
    if stage := _stage_of(modules):
        inner = [PREACT_INNER_NAMES.get(module, module) for module in modules[1:]]
        return [
            torch_entry([f"stages.{stage - 1}.blocks.{block}", *inner], collection, leaf, part)
            for block, part in _blocks(modules, array)
        ]
    if (modules[0], leaf) == ("fc", "kernel"):
        array = array[None, None]
    return [torch_entry([PREACT_TORCH_NAMES.get(modules[0], modules[0])], collection, leaf, array)]


def _stage_of(modules: Sequence[str]) -> int:
    """The stage that a module is in; 0 outside of them."""
    match = re.fullmatch(r"layer(\d+)_(first|rest)", modules[0])
    return int(match[1]) if match else 0


def _blocks(modules: Sequence[str], array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the block in its stage, its array)."""
    return enumerate(array, 1) if modules[0].endswith("_rest") else iter([(0, array)])
