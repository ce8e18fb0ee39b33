"""Names of networks, and what can be said of a network without allocating it.

`TABLE` has the names people use; `FAMILIES` has the networks that a number picks. ResNet names are torchvision's
where torchvision has them (`resnet50` is the ImageNet network); the CIFAR networks of such a depth are
`cifar_resnet50`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import mlp, resnet

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)

TABLE: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp.MLP,
    "linear": partial(mlp.MLP, hidden=()),
    "convnet": mlp.ConvNet,
    **{f"resnet{depth}": partial(resnet.imagenet, depth) for depth in resnet.IMAGENET},
    **{f"resnet{depth}": partial(resnet.cifar, depth) for depth in CIFAR_DEPTHS},
    **{f"plain{depth}": partial(resnet.cifar, depth, block=resnet.PlainBlock) for depth in CIFAR_DEPTHS[:-1]},
}
FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet": resnet.cifar,
    "cifar_plain": partial(resnet.cifar, block=resnet.PlainBlock),
}


def names() -> tuple[str, ...]:
    """The names of `create`; besides them `cifar_resnet<6n+2>` and `cifar_plain<6n+2>` name any depth."""
    return tuple(TABLE)


def create(name: str, **overrides: Any) -> nn.Module:
    """A network by its name.

    Args:
      name: one of `names()`, or a family and a depth such as "cifar_resnet62".
      overrides: fields of the module, such as num_classes.
    Raises: ValueError for an unknown name or field, or a depth that its family does not have.
    """
    family = name.rstrip("0123456789")
    if name in TABLE:
        make = TABLE[name]
    elif family in FAMILIES and family != name:
        make = partial(FAMILIES[family], int(name.removeprefix(family)))
    else:
        near = difflib.get_close_matches(name, TABLE, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        families = ", ".join(f"{family}<depth>" for family in FAMILIES)
        raise ValueError(f"There is no model {name!r}.{hint} Valid are: {', '.join(TABLE)}, {families}.")
    known = fields(make())
    unknown = sorted(overrides.keys() - set(known))
    if unknown:
        raise ValueError(f"{name} has no field {', '.join(unknown)}. Its fields are: {', '.join(known)}.")
    return make(**overrides)


def fields(model: nn.Module) -> tuple[str, ...]:
    """The names of a network's hyperparameters."""
    return tuple(f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name"))


def count_parameters(model: nn.Module, input_shape: Sequence[int]) -> int:
    """How many parameters a network has for images of a shape; allocates nothing.

    Args:
      model: the network.
      input_shape: (height, width, channel) of one image.
    Raises: ValueError if `input_shape` is not three positive numbers.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(model, input_shape)["params"]))


def summary(model: nn.Module, input_shape: Sequence[int]) -> str:
    """One line per part of a network: parameters and their bytes; allocates nothing.

    Args:
      model: the network.
      input_shape: (height, width, channel) of one image.
    Raises: ValueError if `input_shape` is not three positive numbers.
    """
    params = _shapes(model, input_shape)["params"]
    rows = []
    for part, tree in params.items():
        leaves = jax.tree.leaves(tree)
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        rows.append((part, count, sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)))
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{part:<{width}} {count:>14,} {size / 1e6:>10,.1f} MB" for part, count, size in rows)


def _shapes(model: nn.Module, input_shape: Sequence[int]) -> Any:
    shape = tuple(input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input_shape is {shape}; it must be (height, width, channel), without a batch.")
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
