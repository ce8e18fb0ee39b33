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
import numpy as np

from .alexnet import Head, flattened, max_pool
from .layers import Conv, batch_norm
from .torch_names import torch_entry


class VGG(nn.Module):
    """Convolutions in stages, then `Head`.

    num_classes: width of the logits.
    stages: channels of the convolutions of each stage.
    batch_norm: BatchNorm between each convolution and its ReLU.
    hidden: widths of the hidden dense layers; none makes the head linear.
    grid: side to which the last grid is averaged; None leaves it alone and ties the network to one image size.
    dropout: of the outputs of the hidden layers; may be traced.
    axis_name: the pmap axis over which BatchNorm averages; None elsewhere.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32 at least.
    """

    num_classes: int = 1000
    stages: Sequence[Sequence[int]] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    batch_norm: bool = False
    hidden: Sequence[int] = (4096, 4096)
    grid: int | None = 7
    dropout: Any = 0.5
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes]. Draws from the stream "dropout".

        A grid of one pixel is pooled no further, so that images of any size go through.

        Raises: ValueError if x is not of rank 4.
        """
        if x.ndim != 4:
            raise ValueError(f"VGG wants images [batch, height, width, channel]; it was given shape {x.shape}.")
        x = x.astype(self.dtype)
        # Layers are named by their place in torchvision's Sequential, which counts ReLU and pooling too.
        place = 0
        for stage in self.stages:
            for width in stage:
                conv = Conv(
                    width, 3, use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype, name=f"features_{place}"
                )  # fmt: skip
                x = conv(x)
                if self.batch_norm:
                    place += 1
                    x = batch_norm(self, train, name=f"features_{place}")(x)
                x = nn.relu(x)
                place += 2
            x = max_pool(x, 2, 2)
            place += 1
        head = Head(
            self.num_classes, self.hidden, self.grid, self.dropout,
            dtype=self.dtype, param_dtype=self.param_dtype, name="head",
        )  # fmt: skip
        return head(x, train)


# Table 1 of the paper, columns A, B, D and E: convolutions of each stage.
STAGE_SIZES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def vgg(depth: int, *, batch_norm: bool = False, **fields: Any) -> VGG:
    """VGG of a number of layers with weights; VGG-16 has 138,357,544 parameters at 1000 classes.

    Args:
      depth: 11, 13, 16 or 19.
      batch_norm: as of `VGG`.
      fields: of `VGG`.
    Raises: ValueError for another depth.
    """
    if depth not in STAGE_SIZES:
        raise ValueError(f"depth is {depth}; VGG has depths {', '.join(map(str, STAGE_SIZES))}.")
    stages = tuple((width,) * size for width, size in zip(WIDTHS, STAGE_SIZES[depth], strict=True))
    defaults: dict[str, Any] = {"stages": stages}
    return VGG(batch_norm=batch_norm, **(defaults | fields))


TORCH_HEAD = {"dense1": "classifier.0", "dense2": "classifier.3", "output": "classifier.6"}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) of torchvision's VGG for one of our leaves.

    Args:
      path: (collection, module, …, leaf).
      array: of our layout.
    """
    collection, *modules, leaf = path
    if modules[0] == "head":
        name, array = torch_entry([TORCH_HEAD.get(modules[1], modules[1])], collection, leaf, array)
        return [(name, flattened(array))]
    return [torch_entry([modules[0].replace("_", ".")], collection, leaf, array)]
