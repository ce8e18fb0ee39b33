"""Names of vision transformers' weights in timm, and positions for images of another size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..classifiers import ViT
from ..layers import interpolate_positions


def torch_entries(path: Sequence[str], array: Any) -> list[tuple[str, Any]]:
    """Names and arrays in timm's state dict of one of our leaves: one, or one for each block of the stack.

    Args:
      path: the leaf's place in our variables, such as ("params", "blocks", "attn", "qkv", "kernel").
      array: the leaf, or anything with its shape that can be transposed and indexed.
    Returns: [(name, array in torch's layout)], made by permutations and slices alone.
    """
    _, *modules, leaf = path
    names = [*modules, {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)]
    if names[0] == "blocks":
        return [(".".join(["blocks", str(i), *names[1:]]), _torch_layout(array[i])) for i in range(len(array))]
    name = ".".join(names).replace("patch_embed.", "patch_embed.proj.").replace("attn_pool.attn.", "attn_pool.")
    return [(name, _torch_layout(array))]


def _torch_layout(array: Any) -> Any:
    return {4: lambda x: x.transpose(3, 2, 0, 1), 2: lambda x: x.T}.get(array.ndim, lambda x: x)(array)


def at_resolution(
    model: ViT, state_dict: Mapping[str, np.ndarray], image_shape: Sequence[int]
) -> Mapping[str, np.ndarray]:
    """timm's state dict for images of another size: positions that were learned on a square grid move to theirs.

    Args:
      model: the network.
      state_dict: name -> array in torch's layout.
      image_shape: (height, width, channel), which the patches divide.
    Returns: the state dict, with another `pos_embed` where the grid is another.
    Raises: InputError if there are positions, and they are not those of a square grid.
    """
    if model.positions != "learned" or "pos_embed" not in state_dict:
        return state_dict
    learned, prefix = np.asarray(state_dict["pos_embed"]), 1 if model.pooling == "token" else 0
    side = math.isqrt(max(0, learned.shape[1] - prefix)) if learned.ndim == 3 else 0
    grid = image_shape[0] // model.patch_size, image_shape[1] // model.patch_size
    moved = interpolate_positions(jnp.asarray(learned), (side, side), grid, prefix)
    return {**state_dict, "pos_embed": np.asarray(moved)}
