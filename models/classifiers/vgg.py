"""VGG (Simonyan and Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015).

Stages of 3×3 convolutions with ReLU, each ended by 2×2 max pooling, and AlexNet's head. Names and counts of layers
are torchvision's. For images of 32×32 or so the usual head is linear: `hidden=(), grid=1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Conv, batch_norm, check_images, precision
from .alexnet import Head, max_pool


class VGG(nn.Module):
    """Convolutions in stages, then `Head`.

    Attributes:
      num_classes: number of classes, the width of the logits.
      stages: numbers of channels of the convolutions of each stage.
      batch_norm: BatchNorm between each convolution and its ReLU.
      hidden: widths of the hidden dense layers; an empty tuple makes the head linear.
      grid: side to which the last grid is averaged; None leaves it alone and ties the network to one image size.
      dropout: dropout rate of the hidden layers' outputs; may be traced.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 1000
    stages: Sequence[Sequence[int]] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    batch_norm: bool = False
    hidden: Sequence[int] = (4096, 4096)
    grid: int | None = 7
    dropout: float | jax.Array = 0.5
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes]. Draws from the stream "dropout".

        A grid of one pixel is pooled no further, so that images of any size go through.

        Raises: InputError if x is not of rank 4.
        """
        check_images(self, x)
        return self.classify(self.pyramid(x, train)[-1], train)

    def pyramid(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The grid after each stage: of the strides 2, 4, 8, …, to be called where modules can be made."""
        x, grids = x.astype(self.dtype), []
        # Layers are named by their place in torchvision's Sequential, which counts ReLU and pooling too.
        place = 0
        for stage in self.stages:
            for width in stage:
                conv = Conv(width, 3, use_bias=True, **precision(self), name=f"features_{place}")
                x = conv(x)
                if self.batch_norm:
                    place += 1
                    x = batch_norm(self, train, name=f"features_{place}")(x)
                x = nn.relu(x)
                place += 2
            x = max_pool(x, 2, 2)
            grids.append(x)
            place += 1
        return grids

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """The head: the last grid [batch, height, width, channel] -> logits [batch, num_classes]."""
        head = Head(
            self.num_classes,
            self.hidden,
            self.grid,
            self.dropout,
            **precision(self),
            name="head",
        )
        return head(x, train)


# Table 1 of the paper, columns A, B, D and E: convolutions of each stage.
STAGE_SIZES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def vgg(depth: int, *, batch_norm: bool = False, **fields: Any) -> VGG:
    """VGG with a number of layers; VGG-16 has 138,357,544 parameters at 1000 classes.

    Args:
      depth: number of layers with weights: 11, 13, 16 or 19.
      batch_norm: same as in `VGG`.
      fields: other fields of `VGG`.
    Raises: InputError for another depth.
    """
    if depth not in STAGE_SIZES:
        raise InputError(f"depth is {depth}; VGG has depths {', '.join(map(str, STAGE_SIZES))}.")
    stages = tuple((width,) * size for width, size in zip(WIDTHS, STAGE_SIZES[depth], strict=True))
    defaults: dict[str, Any] = {"stages": stages}
    return VGG(batch_norm=batch_norm, **(defaults | fields))
