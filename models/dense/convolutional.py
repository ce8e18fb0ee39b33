"""Classifiers as convolutions: the same weights, and a map of logits for an image that is larger than theirs.

A dense layer over a whole grid is a convolution whose kernel has the size of the grid; on a larger grid it answers for
every window of that size, and shares what the windows have in common (Long, Shelhamer, Darrell 2015, section 3.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..classifiers import VGG, AlexNet, ResNet
from ..layers import Conv, Dropout, average_pool, convolutionalize, precision
from .trunks import AlexNetTrunk, ResNetTrunk, VGGTrunk


def convolutionalized(
    model: nn.Module, variables: Mapping[str, Any], image_shape: Sequence[int]
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained classifier as a network of convolutions.

    Its answer to images of the classifier's own size is a map of one pixel with the classifier's logits, exactly. A
    larger image gets a map of logits, one for each window of the last grid. (AlexNet and VGG average a last grid of
    another size than theirs to that size; the convolutions here do not.)

    Args:
      model: an `AlexNet`, `VGG` or `ResNet`.
      variables: of the classifier.
      image_shape: (height, width, channel) of its own images, whose last grid is the window.
    Returns: (network, its variables): images [batch, height, width, channel] -> [batch, height', width', num_classes].
    Raises: InputError for another network, or if the last grid is no square, or not the one that the head averages to.
    """
    if type(model) not in CONVOLUTIONAL:
        names = ", ".join(kind.__name__ for kind in CONVOLUTIONAL)
        raise InputError(f"{type(model).__name__} cannot be read as convolutions; {names} can.")
    trunk, kind = CONVOLUTIONAL[type(model)]
    fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name not in ("parent", "name")}
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    window = jax.eval_shape(partial(trunk(**fields).apply, variables), image)[-1].shape[1:3]
    grid = fields.get("grid")
    if window[0] != window[1] or grid not in (None, window[0]):
        raise InputError(
            f"Images of {tuple(image_shape)} have a last grid of {window}; it must be square"
            + (f" and {grid} pixels wide, to which the head averages." if grid else ".")
        )
    params = dict(variables["params"])
    if "head" in params:
        params["head"] = convolutional_kernels(params["head"])
    else:
        params |= convolutional_kernels({"fc": params["fc"]})
    return kind(**fields, window=window[0]), {**variables, "params": params}


def convolutional_kernels(layers: Mapping[str, Mapping[str, jax.Array]]) -> dict[str, dict[str, jax.Array]]:
    """Dense layers with the kernels of the convolutions that they are.

    Args:
      layers: {name: {"kernel", "bias"}}; a kernel is [channel, features], or [height, width, channel, features] where
        the layer reads a grid, as AlexNet's and VGG's first one.
    Returns: the same with kernels [height, width, channel, features], of height and width 1 for the former.
    """

    def kernel(array: jax.Array) -> jax.Array:
        return array if array.ndim == 4 else convolutionalize(array, (1, 1))

    return {name: {**leaves, "kernel": kernel(leaves["kernel"])} for name, leaves in layers.items()}


class ConvolutionalAlexNet(AlexNet):
    """`AlexNet` whose head is a `ConvolutionalHead`: images -> maps of logits.

    Attributes:
      window: side of the grid that the first hidden layer reads.
    """

    window: int = 6

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        return ConvolutionalHead(
            self.num_classes, self.hidden, self.window, self.dropout, self.first_dropped, **precision(self), name="head"
        )(x, train)


class ConvolutionalVGG(VGG):
    """`VGG` whose head is a `ConvolutionalHead`: images -> maps of logits.

    Attributes:
      window: side of the grid that the first hidden layer reads.
    """

    window: int = 7

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        return ConvolutionalHead(
            self.num_classes, self.hidden, self.window, self.dropout, **precision(self), name="head"
        )(x, train)


class ConvolutionalResNet(ResNet):
    """`ResNet` that averages over every window of its last grid: images -> maps of logits.

    Attributes:
      window: side of the windows.
    """

    window: int = 7

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        x = average_pool(x, (self.window, self.window), strides=(1, 1))
        x = Dropout(self.dropout)(x, train)
        return Conv(self.num_classes, 1, use_bias=True, **precision(self), name="fc")(x).astype(jnp.float32)


class ConvolutionalHead(nn.Module):
    """AlexNet's and VGG's `Head` without its averaging, and with convolutions for dense layers.

    Attributes:
      num_classes, hidden, dropout, first_dropped, dtype, param_dtype: same as in `Head`.
      window: side of the first kernel.
    """

    num_classes: int
    hidden: Sequence[int]
    window: int
    dropout: float | jax.Array
    first_dropped: int = 1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', num_classes], float32 at least."""
        widths, names = (*self.hidden, self.num_classes), [f"dense{i + 1}" for i in range(len(self.hidden))]
        for i, (width, name) in enumerate(zip(widths, [*names, "output"], strict=True)):
            if self.first_dropped <= i < self.first_dropped + len(self.hidden):
                x = Dropout(self.dropout)(x, train)
            size = self.window if i == 0 else 1
            x = Conv(width, size, padding=0, use_bias=True, **precision(self), name=name)(x)
            x = nn.relu(x) if name != "output" else x
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


# By class: up to its head, and with a head of convolutions.
CONVOLUTIONAL: dict[type[nn.Module], tuple[Any, Any]] = {
    AlexNet: (AlexNetTrunk, ConvolutionalAlexNet),
    VGG: (VGGTrunk, ConvolutionalVGG),
    ResNet: (ResNetTrunk, ConvolutionalResNet),
}
