"""Fine-tuning: a classifier that begins with weights of a file or of a finished run, and what of it is trained.

The trunk of the network is loaded; so is its head, the layer whose shape depends on the number of classes, if the
weights tell as many classes apart as the data have. Otherwise the head is initialized as ever. Images are normalized as
those that the weights were trained on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from ..errors import InputError
from ..models import pretrained, weights
from .saved_network import SavedNetwork, load_network, saved_in


@dataclass(frozen=True)
class WeightsOptions:
    """What training begins with."""

    TITLE: ClassVar[str] = "model"

    weights: Path | None = None
    """File of weights, .safetensors or Google's .npz, or folder of a finished run, with which training begins; by
    default random numbers."""


@dataclass(frozen=True)
class FreezeOptions:
    """What of the network is trained."""

    TITLE: ClassVar[str] = "model"

    freeze: bool = False
    """Whether only the head is trained, and everything that --weights loaded stays, statistics of BatchNorm too."""


@dataclass(frozen=True)
class StartingWeights:
    """What a classifier begins with."""

    variables: Any
    """Variables of the network, None where they are to be initialized: what `Training.variables` takes."""
    moments: tuple[np.ndarray, np.ndarray] | None
    """(mean, standard deviation) by which each channel of pixels in [0, 1] is normalized; None for the data's own."""
    head: Mapping[tuple[str, ...], tuple[int, ...]]
    """Path -> shape of the head's parameters: what is trained of a frozen network."""
    path: Path
    """Where the weights are."""
    digest: str
    """Digest of their arrays."""
    new_head: str
    """Why the head is initialized, as a note in brackets; "" if it is loaded."""

    def report(self, *, frozen: bool) -> dict[str, Any]:
        """What `SavedNetwork.weights` holds of them: path, digest, a sentence, and numbers of parameters."""
        flat: Any = traverse_util.flatten_dict(self.variables["params"])
        sizes = {path: 0 if x is None else x.size for path, x in flat.items()}
        loaded = sum(sizes.values())
        head = sum(math.prod(shape) for shape in self.head.values())
        total = loaded + (head if self.new_head else 0)
        what = f"the head is new, for another number of classes{self.new_head}" if self.new_head else "the head too"
        return {
            "path": str(self.path),
            "digest": self.digest,
            "note": f"Begins with {self.path}: {loaded:,} of {total:,} parameters are loaded, {what}.",
            "counts": {
                "parameters_loaded": loaded,
                "parameters_initialized": total - loaded,
                "parameters_trained": head if frozen else total,
            },
        }


def starting_weights(path: Path, model: nn.Module, name: str, image_shape: tuple[int, int, int]) -> StartingWeights:
    """The weights of a file or of a finished run, for a network.

    Args:
      path: the file or the run's folder.
      model: the network, with as many classes as the data have.
      name: its name, by which published weights are known to be for images of some normalization.
      image_shape: (height, width, channel) of the images.
    Raises: MissingFile; InputError if there are no weights to be read, or they do not fit the network or the images.
    """
    stored, saved = _read(path)
    try:
        state_dict, new_head = _fit_head(model, stored, image_shape)
        pretrained.check_channels(model, state_dict, image_shape)
        moved = pretrained.at_resolution(model, state_dict, image_shape)
        variables = pretrained.from_torch(model, moved, pretrained.template(model, image_shape))
    except InputError as error:
        other = (
            f" They are those of {saved.model}; give --model {saved.model}." if saved and saved.model != name else ""
        )
        raise InputError(f"{path}: {error}{other}") from error
    head = _head(model, image_shape)
    if new_head:
        variables = jax.tree_util.tree_map_with_path(lambda at, x: None if _strings(at)[1:] in head else x, variables)
    return StartingWeights(variables, _moments(saved, name, image_shape), head, path, _digest(stored), new_head)


def _read(path: Path) -> tuple[Mapping[str, np.ndarray], SavedNetwork | None]:
    """(name -> array, what is known of the network) of a file or of a run."""
    if path.is_dir():
        found = load_network(path)
        return pretrained.to_torch(found.model, found.variables), found.saved
    return pretrained.read(path), saved_in(path)


def _fit_head(
    model: nn.Module, stored: Mapping[str, np.ndarray], image_shape: tuple[int, int, int]
) -> tuple[dict[str, np.ndarray], str]:
    """The weights with a head of the network's shape; of zeros, and with why, where theirs is another or missing."""
    state_dict = pretrained.present(model, stored)
    wanted = pretrained.head_shapes(model, image_shape)
    if all(name in state_dict and state_dict[name].shape == shape for name, shape in wanted.items()):
        return state_dict, ""
    known = [len(state_dict[name]) for name in wanted if name in state_dict and state_dict[name].ndim == 1]
    why = f" ({known[0]} in the weights)" if known else " (the weights have none)"
    return state_dict | {name: np.zeros(shape, np.float32) for name, shape in wanted.items()}, why


def _head(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path -> shape of the parameters whose shapes depend on the number of classes."""

    def shapes(model: Any) -> dict[Any, tuple[int, ...]]:
        flat: Any = traverse_util.flatten_dict(pretrained.template(model, image_shape)["params"])
        return {path: leaf.shape for path, leaf in flat.items()}

    one, two, own = (shapes(each) for each in (model.clone(num_classes=1), model.clone(num_classes=2), model))
    return {path: shape for path, shape in own.items() if one[path] != two[path]}


def _moments(
    saved: SavedNetwork | None, name: str, image_shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(mean, std) of the images that the weights were trained on; None where nothing tells."""
    if saved is not None:
        return np.asarray(saved.mean, np.float32), np.asarray(saved.std, np.float32)
    usual = weights.convention(name)
    if image_shape[2] != len(usual.mean):
        return None
    return np.asarray(usual.mean, np.float32), np.asarray(usual.std, np.float32)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _strings(path: Any) -> tuple[str, ...]:
    return tuple(key.key for key in path)
