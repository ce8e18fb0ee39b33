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
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import InputError, MissingFile
from ..catalogue import example_inputs
from ..classifiers import VGG, AlexNet, FIDInception, PreActResNet, ResNet, ViT
from ..generative import DenoisingUNet, DiT
from . import alexnet_names, dit_names, inception_names, resnet_names, unet_names, vgg_names, vit_names

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
}
# What becomes of a published state dict first, where its names are older or it stores what nothing learns.
READINGS: dict[type[nn.Module], Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]] = {
    DenoisingUNet: unet_names.present_names,
    DiT: dit_names.without_positions,
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


def save(model: nn.Module, variables: Mapping[str, Any], path: str | Path) -> None:
    """Writes variables of a network so that `load`, torchvision, timm or diffusers can read them.

    (DiT's authors also store its positions, which are computed here: load such a file there with strict=False.)

    Args:
      model: the network.
      variables: {"params", …}.
      path: path of the file, in a folder that exists. An older file is replaced in one move.
    Raises: MissingFile if the folder does not exist; ValueError as in `to_torch`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingFile(f"There is no folder {path.parent} to write {path.name} into.")
    partial_file = path.with_name(path.name + ".partial")
    save_file({name: np.ascontiguousarray(x) for name, x in to_torch(model, variables).items()}, partial_file)
    partial_file.replace(path)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file.

    Raises: MissingFile if there is none; InputError if it is not in the format: cut short, forged, or a pickle
      (`.pth`), which is never opened as one.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f"There is no file of weights {path}.")
    hint = ""
    try:
        with path.open("rb") as file:
            if file.read(4).startswith(PICKLES):
                hint = " It looks like a pickle of PyTorch; safetensors.torch.save_file converts the state dict of one."
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:  # numpy's, of a shape that no array can have
        raise InputError(f"{path} is not a readable safetensors file: {error}.{hint}") from error
    except AttributeError as error:  # safetensors asks numpy for types of less than 16 bits by name
        raise InputError(f"{path} holds numbers of a type that is not read here: {error}.") from error


PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's zip archive, and the bare pickles before it


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
    Raises: InputError for a network that has no published names.
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
      NaN, infinity or more than the network's type can, or a negative variance; or for a network that has no
      published names.
    """
    entries = _entries_of(model)
    state_dict = READINGS.get(type(model), dict)(state_dict)
    given = {name: np.asarray(x) for name, x in state_dict.items() if not name.endswith("num_batches_tracked")}
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
        told = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names)
        raise InputError(f"The weights do not fit this network. {told}.")
    return jax.tree_util.tree_unflatten(structure, [_gather(entries, path, leaf, given) for path, leaf in leaves])


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
    Raises: InputError if network or weights lack the classifier, or its bias is not a vector; or as in `to_torch`.
    """
    entries = _entries_of(model)
    one, two = (_shapes(entries, template(model.clone(num_classes=n), image_shape)) for n in (1, 2))
    head = next((name for name, shape in one.items() if len(shape) == 1 and shape != two[name]), None)
    if head is None:
        raise InputError(f"{type(model).__name__} has no classifier whose weights tell the number of classes.")
    if head not in state_dict:
        raise InputError(f"The weights do not fit this network. missing: {head}.")
    shape = state_dict[head].shape
    if len(shape) != 1 or shape[0] < 1:
        raise InputError(f"The weights do not fit this network. of another shape: {head} {shape} for (classes,).")
    return shape[0]


def _entries_of(model: nn.Module) -> TorchEntries:
    if type(model) not in TORCH_ENTRIES:
        families = ", ".join(family.__name__ for family in TORCH_ENTRIES)
        raise InputError(f"{type(model).__name__} has no published names. Families that have: {families}.")
    return TORCH_ENTRIES[type(model)]


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
