"""Names of DiT's weights in the authors' code (facebookresearch/DiT)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import InputError
from ..layers import sincos2d
from .torch_names import torch_entry

# The authors' names (facebookresearch/DiT). Their Sequentials count SiLU too.
TORCH_NAMES = {
    "linear1": "mlp.0",
    "linear2": "mlp.2",
    "conditioning": "t_embedder",
    "final_modulation": "final_layer.adaLN_modulation.1",
    "final_linear": "final_layer.linear",
    "modulation": "adaLN_modulation.1",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Names and arrays in the authors' DiT of one of our leaves: one for each block of the stack.

    Args:
      path: (collection, module, …, leaf).
      array: the leaf, in our layout.
    """
    collection, *modules, leaf = path
    if leaf == "classes":
        return [("y_embedder.embedding_table.weight", array)]
    if leaf.startswith("patch_"):
        return [torch_entry(["x_embedder", "proj"], collection, leaf.removeprefix("patch_"), array)]
    names = [TORCH_NAMES.get(module, module) for module in modules]
    if names[0] == "blocks":
        return [torch_entry(["blocks", str(i), *names[1:]], collection, leaf, part) for i, part in enumerate(array)]
    return [torch_entry(names, collection, leaf, array)]


def without_positions(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of the authors without the positions, which they store although nothing learns them.

    Raises: InputError if these are not the sines and cosines of a square grid.
    """
    rest = dict(state_dict)
    if (stored := rest.pop("pos_embed", None)) is not None:
        side = int(np.sqrt(stored.shape[1]))
        ours = np.asarray(sincos2d((side, side), stored.shape[-1]))
        # 2⁻¹⁰ is what float16 may round numbers up to 1 by.
        if stored.shape != (1, *ours.shape) or np.abs(ours - stored[0].astype(np.float32)).max() > 2**-9:
            raise InputError("pos_embed is not the sines and cosines of a square grid that DiT has.")
    return rest
