"""Parameters of a network, counted from shapes alone: nothing is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax

from ..catalogue import Inputs, example_inputs


def count_parameters(model: nn.Module, input_shape: Sequence[int], inputs: Inputs | None = None) -> int:
    """Number of parameters of a network for inputs of a shape; allocates nothing.

    >>> from etude import models
    >>> models.count_parameters(models.create("linear", num_classes=1000), (224, 224, 3))
    150529000

    Args:
      model: the network.
      input_shape: shape of one example: (height, width, channel) of an image, (length,) of a vector.
      inputs: as in `catalogue.Entry`; by default those of the network's class.
    Raises: InputError if `input_shape` is not one to three positive numbers.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(model, input_shape, inputs)))


def summary(model: nn.Module, input_shape: Sequence[int], inputs: Inputs | None = None) -> str:
    """One line per layer of a network: its parameters and their bytes; allocates nothing.

    Blocks that run under `nn.scan` are one line, with the parameters of all of them.

    >>> from etude import models
    >>> print(models.summary(models.create("mlp", hidden=(16,)), (8, 8, 1)))
    hidden1             1,040    4.2 kB
    output                170   680.0 B
    total               1,210    4.8 kB

    Args:
      model: the network.
      input_shape: shape of one example: (height, width, channel) of an image, (length,) of a vector.
      inputs: as in `catalogue.Entry`; by default those of the network's class.
    Raises: InputError if `input_shape` is not one to three positive numbers.
    """
    layers: dict[str, tuple[int, int]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_shapes(model, input_shape, inputs)):
        names = [key.key for key in path]
        layer = "/".join(names[:-1] or names)  # a parameter of the network itself is a line of its own
        count, size = layers.get(layer, (0, 0))
        layers[layer] = count + math.prod(leaf.shape), size + math.prod(leaf.shape) * leaf.dtype.itemsize
    total = tuple(map(sum, zip(*layers.values(), strict=True)))
    width = max(map(len, [*layers, "total"]))
    rows = [*layers.items(), ("total", total)]
    return "\n".join(f"{name:<{width}} {count:>17,} {_readable(size):>9}" for name, (count, size) in rows)


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _shapes(model: nn.Module, input_shape: Sequence[int], inputs: Inputs | None) -> Mapping[str, object]:
    """Shapes and types of the parameters."""
    arguments = example_inputs(model, input_shape, inputs)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), *arguments)["params"]
