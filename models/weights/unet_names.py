"""Names of the denoising U-Net's weights in diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from .torch_names import torch_entry

# diffusers' names (UNet2DModel) where they are not ours.
TORCH_NAMES = {
    "norm_out": "conv_norm_out",
    "linear1": "linear_1",
    "linear2": "linear_2",
    "condition": "time_emb_proj",
    "shortcut": "conv_shortcut",
    "norm": "group_norm",
    "proj": "to_out.0",
}


PARTS = {"block": "resnets", "attention": "attentions"}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Names and arrays in diffusers' UNet2DModel of one of our leaves: three for queries, keys and values.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, first, *inner, leaf = path
    if leaf == "classes":
        return [("class_embedding.weight", array)]
    names = [_place(first), *(TORCH_NAMES.get(module, module) for module in inner)]
    if names[-1] != "qkv":
        return [torch_entry(names, collection, leaf, array)]
    return [
        torch_entry([*names[:-1], f"to_{part}"], collection, leaf, values)
        for part, values in zip("qkv", np.split(array, 3, axis=-1), strict=True)
    ]


def _place(module: str) -> str:
    """Where one of the network's own modules is in diffusers' lists."""
    if module == "conditioning":
        return "time_embedding"
    if match := re.fullmatch(r"(down|up)(\d+)_sample", module):
        return f"{match[1]}_blocks.{match[2]}.{match[1]}samplers.0.conv"
    if match := re.fullmatch(r"(down|up)(\d+)_(block|attention)(\d+)", module):
        return f"{match[1]}_blocks.{match[2]}.{PARTS[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"mid_(block|attention)(\d+)", module):
        return f"mid_block.{PARTS[match[1]]}.{match[2]}"
    return TORCH_NAMES.get(module, module)


# Files made before 2023, such as the published ones of DDPM, call the projections of attention otherwise.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def present_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of diffusers of any age under the names that `torch_entries` has."""

    def renamed(name: str) -> str:
        *modules, last, leaf = ["", "", *name.split(".")]
        return ".".join([*modules, OLD_NAMES.get(last, last), leaf]).lstrip(".")

    return {renamed(name): array for name, array in state_dict.items()}
