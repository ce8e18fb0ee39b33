"""Variables of our ResNets under torchvision's names and layouts, and back.

The mapping is exact both ways. Scanned blocks are stacked on a leading axis here and numbered there; kernels are
[height, width, in, out] here and [out, in, height, width] there. Tracked batch counts, which torch keeps and nothing
uses, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


def to_torchvision(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our variables as a torchvision state dict.

    Args:
      variables: {"params", "batch_stats"} of a `ResNet`.
    Returns: name -> array in torch's layout.
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        for name, array in _torch_entries(path, np.asarray(leaf)):
            named[name] = array
    return named


def from_torchvision(state_dict: Mapping[str, np.ndarray], template: Mapping[str, Any]) -> dict[str, Any]:
    """A torchvision state dict as our variables.

    Args:
      state_dict: name -> array in torch's layout.
      template: variables of the same network (or their shapes, by `jax.eval_shape`).
    Returns: variables of the template's structure.
    Raises: ValueError that lists the names that are missing or unknown, or whose shapes differ.
    """
    given = {name: np.asarray(x) for name, x in state_dict.items() if not name.endswith("num_batches_tracked")}
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    shapes = [(path, np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)) for path, leaf in leaves]
    wanted = {name: array.shape for path, leaf in shapes for name, array in _torch_entries(path, leaf)}
    problems = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unknown": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(n for n in wanted.keys() & given.keys() if wanted[n] != given[n].shape),
    }
    if any(problems.values()):
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"The weights do not fit this network. {told}.")
    restored = []
    for path, leaf in shapes:
        parts = [_from_torch_layout(given[name]) for name, _ in _torch_entries(path, leaf)]
        restored.append(np.stack(parts) if _is_stacked(path) else parts[0])
    return jax.tree_util.tree_unflatten(structure, restored)


def _torch_entries(path, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) there of one of our leaves: one entry, or one for each block of a stack."""
    collection, *modules, leaf = [key.key for key in path]
    names = [module.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
             for module in modules]  # fmt: skip
    suffix = LEAVES[collection, leaf]
    stage = re.fullmatch(r"(layer\d+)_(first|rest)", names[0])
    if stage is None:
        return [(".".join([*names, suffix]), _to_torch_layout(array))]
    layer, inner = stage[1], [*names[1:], suffix]
    if stage[2] == "first":
        return [(".".join([layer, "0", *inner]), _to_torch_layout(array))]
    return [(".".join([layer, str(i + 1), *inner]), _to_torch_layout(part)) for i, part in enumerate(array)]


def _is_stacked(path) -> bool:
    return path[1].key.endswith("_rest")


def _to_torch_layout(array: np.ndarray) -> np.ndarray:
    return {4: lambda x: x.transpose(3, 2, 0, 1), 2: lambda x: x.T}.get(array.ndim, lambda x: x)(array)


def _from_torch_layout(array: np.ndarray) -> np.ndarray:
    return {4: lambda x: x.transpose(2, 3, 1, 0), 2: lambda x: x.T}.get(array.ndim, lambda x: x)(array)
