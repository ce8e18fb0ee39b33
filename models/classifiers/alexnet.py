"""AlexNet (Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks", 2012).

Five convolutions, three max poolings and a head of three dense layers. `one_tower` is the later network of a single
group (Krizhevsky 2014: "One weird trick for parallelizing convolutional neural networks"), which torchvision ships;
`original` is the one of 2012, in two groups and with local response normalization. The head, its pooling to a fixed
grid and the poolings that leave small grids alone serve VGG too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Conv, Dropout, adaptive_average_pool, check_positive, local_response_norm, precision


class AlexNet(nn.Module):
    """Convolutions with ReLU, pooled after the first, second and fifth; then `Head`.

    Attributes:
      num_classes: number of classes, the width of the logits.
      features: numbers of channels of the five convolutions.
      groups: number of groups of each convolution. Each of the paper's two halves lived on a GPU of its own.
      response_norm: local response normalization after the first two convolutions.
      hidden: widths of the hidden dense layers.
      grid: side to which the last grid is averaged; None leaves it alone and ties the network to one image size.
      dropout: dropout rate of the hidden layers; may be traced.
      first_dropped: same as in `Head`.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 1000
    features: Sequence[int] = (64, 192, 384, 256, 256)
    groups: Sequence[int] = (1, 1, 1, 1, 1)
    response_norm: bool = False
    hidden: Sequence[int] = (4096, 4096)
    grid: int | None = 6
    dropout: float | jax.Array = 0.5
    first_dropped: int = 0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes]. Draws from the stream "dropout".

        Raises: InputError if x is not of rank 4 or smaller than 7×7.
        """
        if x.ndim != 4 or min(x.shape[1:3]) < 7:
            raise InputError(
                f"AlexNet needs images [batch, height, width, channel] of at least 7×7; it was given shape {x.shape}."
            )
        return self.classify(self.pyramid(x)[-1], train)

    def pyramid(self, x: jax.Array) -> list[jax.Array]:
        """The grids after each pooling: of the strides 8, 16 and 32, to be called where modules can be made."""
        x, grids = x.astype(self.dtype), []
        for i, (size, stride, padding, pooled) in enumerate(CONVOLUTIONS):
            conv = Conv(
                self.features[i],
                size,
                stride,
                padding,
                self.groups[i],
                use_bias=True,
                **precision(self),
                name=f"conv{i + 1}",
            )
            x = nn.relu(conv(x))
            if self.response_norm and i < 2:
                x = local_response_norm(x)
            if pooled:
                x = max_pool(x, 3, 2)
                grids.append(x)
        return grids

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """The head: the last grid [batch, height, width, channel] -> logits [batch, num_classes]."""
        head = Head(
            self.num_classes,
            self.hidden,
            self.grid,
            self.dropout,
            self.first_dropped,
            **precision(self),
            name="head",
        )
        return head(x, train)


# Kernel size, stride, padding, and whether pooling follows. With a padding of 2, images of 224×224 (which the paper
# names) give the 55×55 outputs that it has.
CONVOLUTIONS = ((11, 4, 2, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 1, False), (3, 1, 1, True))


class Head(nn.Module):
    """Averages a grid to a fixed size; then dense layers with ReLU and dropout, and a last dense layer.

    The first dense layer reads the whole grid. Its kernel keeps the axes of the grid, [height, width, channel,
    features], like that of a convolution.

    Attributes:
      num_classes: width of the output.
      hidden: widths of the hidden layers; an empty tuple makes the head linear.
      grid: side to which the grid is averaged; None leaves it alone.
      dropout: dropout rate; may be traced.
      first_dropped: index of the first dense layer whose input is dropped; as many follow as there are hidden layers.
        With 1 these inputs are the outputs of the hidden layers, as in the papers; with 0 they are their inputs, as in
        torchvision's AlexNet.
      dtype: data type of the computation. The output is float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int
    hidden: Sequence[int]
    grid: int | None
    dropout: float | jax.Array = 0.5
    first_dropped: int = 1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, num_classes], float32 at least.

        Raises: InputError if a width or the grid's side is not positive.
        """
        check_positive(self, "num_classes", "hidden")
        if self.grid is not None:
            check_positive(self, "grid")
            x = adaptive_average_pool(x, self.grid)
        for i, width in enumerate(self.hidden):
            x = nn.relu(self._dense(i, width, nn.initializers.he_normal(), f"dense{i + 1}", x, train))
        x = self._dense(len(self.hidden), self.num_classes, nn.initializers.lecun_normal(), "output", x, train)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(
        self, i: int, width: int, init: nn.initializers.Initializer, name: str, x: jax.Array, train: bool
    ) -> jax.Array:
        if self.first_dropped <= i < self.first_dropped + len(self.hidden):
            x = Dropout(self.dropout)(x, train)
        layer = nn.DenseGeneral(
            width,
            axis=tuple(range(1, x.ndim)),
            **precision(self),
            kernel_init=init,
            name=name,
        )
        return layer(x)


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Max pooling without padding whose window is never larger than the grid, so that small images go through too.

    Args:
      x: [batch, height, width, channel].
      size: side of the window.
      stride: steps between windows.
    Returns: [batch, height', width', channel].
    """
    window = (min(size, x.shape[1]), min(size, x.shape[2]))
    return nn.max_pool(x, window, (stride, stride))


def one_tower(**fields: Any) -> AlexNet:
    """torchvision's `alexnet`: 61,100,840 parameters at 1000 classes. `fields` are fields of `AlexNet`."""
    return AlexNet(**fields)


def original(**fields: Any) -> AlexNet:
    """The network of 2012, 60,965,224 parameters: response norms, and two groups where its GPUs did not communicate.

    Args:
      fields: other fields of `AlexNet`.
    """
    defaults: dict[str, Any] = {
        "features": (96, 256, 384, 384, 256),
        "groups": (1, 2, 1, 2, 2),
        "response_norm": True,
        "first_dropped": 1,
    }
    return AlexNet(**(defaults | fields))
