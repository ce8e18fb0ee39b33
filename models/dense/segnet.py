"""SegNet (Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder Architecture", 2017).

VGG's convolutions with BatchNorm, and their mirror image. Each 2×2 pooling remembers where its maxima were, and the
unpooling of the same grid on the way back puts its input there: the decoder gets places instead of features.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import LECUN, Conv, batch_norm, check_positive, max_pool_with_places, max_unpool, precision


class SegNet(nn.Module):
    """Images -> logits of each pixel.

    Attributes:
      num_classes: number of classes, the width of the logits. CamVid, the paper's data, has 12 with the void.
      stages: numbers of channels of the encoder's convolutions of each stage; by default those of VGG-16.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 12
    stages: Sequence[Sequence[int]] = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, height, width, num_classes].

        Any size goes through: the last window of an odd size is half empty, and its unpooling is cut off.

        Raises: InputError if x is not of rank 4, or a size is not positive.
        """
        check_positive(self, "num_classes")
        if x.ndim != 4 or not self.stages or min(map(min, self.stages)) < 1:
            raise InputError(
                f"SegNet needs images [batch, height, width, channel] and stages of at least 1 channel; it was given "
                f"shape {x.shape} and {self.stages}."
            )
        x, pooled = x.astype(self.dtype), []
        for i, stage in enumerate(self.stages):
            for j, width in enumerate(stage):
                x = self._convolution(x, width, f"encoder{i + 1}", j + 1, train)
            shape = x.shape[1:3]
            x, places = max_pool_with_places(x)
            pooled.append((shape, places))
        for i, stage in reversed(list(enumerate(self.stages))):
            shape, places = pooled[i]
            x = max_unpool(x, places, (shape[0], shape[1]))
            # The mirror image: the last convolution leads to the channels of the grid above.
            widths = [*stage[:0:-1], self.stages[i - 1][-1]] if i else stage[:0:-1]
            for j, width in enumerate(widths):
                x = self._convolution(x, width, f"decoder{i + 1}", j + 1, train)
        output = Conv(self.num_classes, 3, use_bias=True, **precision(self), kernel_init=LECUN, name="output")
        return output(x).astype(jnp.promote_types(x.dtype, jnp.float32))

    def _convolution(self, x: jax.Array, width: int, stage: str, number: int, train: bool) -> jax.Array:
        x = Conv(width, 3, use_bias=True, **precision(self), name=f"{stage}_conv{number}")(x)
        return nn.relu(batch_norm(self, train, name=f"{stage}_bn{number}")(x))
