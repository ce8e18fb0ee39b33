"""Weights under the names and layouts of torchvision, timm and diffusers, and back, as `.safetensors` files.

A family's `torch_entries(path, array)` gives the names and parts under which one of our leaves is stored there. It only
permutes, slices and reshapes, so the way back needs no code of its own: indices sent through the same function in place
of values tell where each value came from. Nothing here executes the contents of a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ...errors import InputError, MissingFile, listed
from ..catalogue import example_inputs, fields
from ..classifiers import VGG, AlexNet, FIDInception, PreActResNet, ResNet, ViT
from ..dense import FCNResNet
from ..generative import DenoisingUNet, DiT
from ..sequences import Recurrent, TextEncoder
from . import (
    alexnet_names,
    dit_names,
    fcn_names,
    google_vit,
    inception_names,
    resnet_names,
    sequence_names,
    unet_names,
    vgg_names,
    vit_names,
)
from .wrapped import cure_of_names, cure_of_pickle

TorchEntries = Callable[[tuple[str, ...], np.ndarray], list[tuple[str, np.ndarray]]]

TORCH_ENTRIES: dict[type[nn.Module], TorchEntries] = {
    AlexNet: alexnet_names.torch_entries,
    VGG: vgg_names.torch_entries,
    ResNet: resnet_names.torch_entries,
    PreActResNet: resnet_names.preact_torch_entries,
    ViT: vit_names.torch_entries,
    DenoisingUNet: unet_names.torch_entries,
    DiT: dit_names.torch_entries,
    FIDInception: inception_names.torch_entries,
    FCNResNet: fcn_names.torch_entries,
    Recurrent: sequence_names.recurrent_entries,
    TextEncoder: sequence_names.bert_entries,
}
# What becomes of a published state dict first, where its names are older or it stores what nothing learns.
READINGS: dict[type[nn.Module], Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]] = {
    ResNet: resnet_names.torchvision_names,
    VGG: vgg_names.torchvision_names,
    DenoisingUNet: unet_names.present_names,
    DiT: dit_names.without_positions,
    TextEncoder: sequence_names.without_position_ids,
}
# What becomes of it for images of another size than its weights were learned for, where that matters.
RESOLUTIONS: dict[type[nn.Module], Callable[[Any, Mapping[str, np.ndarray], Sequence[int]], Mapping]] = {
    ViT: vit_names.at_resolution,
}


def load(model: nn.Module, path: str | Path, image_shape: Sequence[int]) -> dict[str, Any]:
    """Variables of a network from a `.safetensors` file with the names of torchvision, timm, diffusers or the authors.

    Args:
      model: the network, with as many classes as the file (`num_classes` reads them off).
      path: path of the file.
      image_shape: (height, width, channel). For a vision transformer, the shape that its weights were learned for
        (`at_resolution` moves a state dict to another).
    Returns: variables of the network, in its param_dtype.
    Raises: MissingFile; InputError if the file is not in the format, or does not fit (as `from_torch`).
    """
    return from_torch(model, read(path), template(model, image_shape))


def save(
    model: nn.Module, variables: Mapping[str, Any], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes variables of a network so that `load`, torchvision, timm or diffusers can read them.

    (DiT's authors also store its positions, which are computed here: load such a file there with strict=False.)

    Args:
      model: the network.
      variables: {"params", …}.
      path: path of the file, in a folder that exists. An older file is replaced in one move.
      metadata: texts that the file is to hold besides, for `read_metadata`.
    Raises: MissingFile if the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingFile(f"There is no folder {path.parent} to write {path.name} into.")
    partial_file = path.with_name(path.name + ".partial")
    arrays = {name: np.ascontiguousarray(x) for name, x in to_torch(model, variables).items()}
    save_file(arrays, partial_file, {"format": "pt", **(metadata or {})})
    partial_file.replace(path)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file, or of a vision transformer that Google published as `.npz`.

    Returns: name -> array; those of an `.npz` under timm's names and in its layout.
    Raises: MissingFile if there is none; InputError if it is not in the format: cut short, forged, or a pickle
      (`.pth`), which is never opened as one.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"There is no file of weights {path}.")
    if path.suffix == ".npz":
        return google_vit.read(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:  # numpy's, of a shape that no array can have
        raise InputError(f"{path} is not a readable safetensors file: {error}.{cure_of_pickle(path)}") from error
    except AttributeError as error:  # safetensors asks numpy for types of less than 16 bits by name
        raise InputError(f"{path} holds numbers of a type that is not read here: {error}.") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that a `.safetensors` file holds besides its arrays; none of a file in another format."""
    if Path(path).suffix == ".npz":
        return {}
    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def at_resolution(
    model: nn.Module, state_dict: Mapping[str, np.ndarray], image_shape: Sequence[int]
) -> Mapping[str, np.ndarray]:
    """A state dict for images of another size: a vision transformer's learned positions move to their grid.

    Args:
      model: the network.
      state_dict: name -> array in torch's layout.
      image_shape: (height, width, channel).
    Returns: the same state dict if nothing has to move, otherwise a new one.
    Raises: InputError if there are positions, and they are not those of a square grid.
    """
    move = RESOLUTIONS.get(type(model))
    return state_dict if move is None else move(model, state_dict, image_shape)


def to_torch(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Variables as a state dict.

    Args:
      model: the network of the variables.
      variables: {"params", …}, or gradients in that form.
    Returns: name -> array in torch's layout. The counts of batches that torch keeps, and nothing uses, are left out.
    """
    entries = _entries_of(model)
    return {
        name: array
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        for name, array in entries(_strings(path), np.asarray(leaf))
    }


def from_torch(model: nn.Module, state_dict: Mapping[str, np.ndarray], template: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict as variables.

    Args:
      model: the network that it is for.
      state_dict: name -> array in torch's layout, of any floating type.
      template: variables of the network or their shapes, from `template`.
    Returns: numpy arrays of the template's structure, shapes and types.
    Raises: InputError that lists the names that are missing or unknown, whose shapes or types do not fit, that hold
      NaN, infinity or more than the network's type can, or a negative variance.
    """
    entries = _entries_of(model)
    given = present(model, state_dict)
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    wanted = _shapes(entries, template)
    both = wanted.keys() & given.keys()
    largest = float(min((jnp.finfo(leaf.dtype).max for _, leaf in leaves), default=jnp.inf))
    floating = {name for name in both if jnp.issubdtype(given[name].dtype, jnp.floating)}
    problems = {
        "missing": wanted.keys() - given.keys(),
        "unknown": given.keys() - wanted.keys(),
        "of another shape": {
            f"{name} {given[name].shape} for {wanted[name]}" for name in both if wanted[name] != given[name].shape
        },
        "not of a floating type": both - floating,
        "not finite": {name for name in floating if not (np.abs(given[name].astype(np.float64)) <= largest).all()},
        "negative": {name for name in floating if name.endswith("running_var") and (given[name] < 0).any()},
    }
    if any(problems.values()):
        cure = cure_of_names(given, wanted)
        if cure:
            raise InputError(cure)
        told = "; ".join(f"{kind}: {listed(sorted(names))}" for kind, names in problems.items() if names)
        raise InputError(f"The weights do not fit this network. {told}.")
    return jax.tree_util.tree_unflatten(structure, [_gather(entries, path, leaf, given) for path, leaf in leaves])


def present(model: nn.Module, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict under the names that `to_torch` gives, where a family's names have others too, without counts."""
    renamed = READINGS.get(type(model), dict)(state_dict)
    return {name: np.asarray(x) for name, x in renamed.items() if not name.endswith("num_batches_tracked")}


def head_shapes(model: nn.Module, image_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights that depend on the number of classes: the classifier's last layer.

    Raises: InputError for a network without the field `num_classes`, or without such weights.
    """
    if "num_classes" not in fields(model):
        raise InputError(f"{type(model).__name__} has no field num_classes, by which its head could be known.")
    entries = _entries_of(model)
    one, two, own = (
        _shapes(entries, template(each, image_shape))
        for each in (model.clone(num_classes=1), model.clone(num_classes=2), model)
    )
    found = {name: own[name] for name, shape in one.items() if shape != two[name]}
    if not found:
        raise InputError(f"{type(model).__name__} has no weights whose shapes depend on the number of classes.")
    return found


def check_channels(model: nn.Module, state_dict: Mapping[str, np.ndarray], image_shape: Sequence[int]) -> None:
    """Raises InputError if weights are for images of another number of channels than these."""
    entries, (height, width, channels) = _entries_of(model), image_shape
    own, other = (_shapes(entries, template(model, (height, width, n))) for n in (channels, channels + 1))
    name = next((name for name, shape in own.items() if shape != other[name]), None)
    if name is None or name not in state_dict or state_dict[name].shape == own[name]:
        return
    for n in range(1, MOST_CHANNELS + 1):
        if _shapes(entries, template(model, (height, width, n)))[name] == state_dict[name].shape:
            raise InputError(
                f"The weights are for images of {n} channel{'s' if n > 1 else ''}; these images have {channels}."
            )


MOST_CHANNELS = 4  # of images that are read


def template(model: nn.Module, image_shape: Sequence[int]) -> Any:
    """Shapes and types of a network's variables for images of (height, width, channel); allocates nothing."""
    inputs = example_inputs(model, image_shape)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), *inputs)


def num_classes(model: nn.Module, state_dict: Mapping[str, np.ndarray], image_shape: Sequence[int]) -> int:
    """Number of classes of a network's weights: the length of the one bias whose length depends on it.

    Args:
      model: the network, with a field `num_classes` of any value.
      state_dict: name -> array.
      image_shape: (height, width, channel).
    Raises: InputError if network or weights lack the classifier, or its bias is not a vector.
    """
    state_dict = present(model, state_dict)
    wanted = _shapes(_entries_of(model), template(model, image_shape))
    head = next((name for name, shape in head_shapes(model, image_shape).items() if len(shape) == 1), None)
    if head is None:
        raise InputError(f"{type(model).__name__} has no classifier whose weights tell the number of classes.")
    if head not in state_dict:
        raise InputError(cure_of_names(state_dict, wanted) or f"The weights do not fit this network. missing: {head}.")
    shape = state_dict[head].shape
    if len(shape) != 1 or shape[0] < 1:
        raise InputError(f"The weights do not fit this network. of another shape: {head} {shape} for (classes,).")
    return shape[0]


def _entries_of(model: nn.Module) -> TorchEntries:
    return TORCH_ENTRIES.get(type(model), _own_entries)


def _own_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A leaf under its own path, as it is: the names of a network that has no published ones."""
    return [(".".join(path), array)]


def _strings(path) -> tuple[str, ...]:
    return tuple(key.key for key in path)


def _shapes(entries: TorchEntries, template: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """name -> shape there."""
    return {
        name: array.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(template)
        for name, array in entries(_strings(path), np.broadcast_to(np.int8(0), leaf.shape))
    }


def _gather(entries: TorchEntries, path, leaf, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """One leaf of ours from the arrays that it went to."""
    values = np.empty(math.prod(leaf.shape), leaf.dtype)
    for name, places in entries(_strings(path), np.arange(values.size).reshape(leaf.shape)):
        values[places] = given[name]
    return values.reshape(leaf.shape)
