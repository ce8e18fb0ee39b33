"""ResNet-9, the fast residual network for small images (David Page, "How to Train Your ResNet", 2018, part 4).

Few wide convolutions on grids that shrink early: far better use of a processor than a deep narrow network of the same
accuracy. Three stages, of which the first and the last have a residual branch of two convolutions.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Conv, batch_norm, check_positive, max_pool, precision


class ResNet9(nn.Module):
    """Stem, three stages of convolution and 2×2 pooling, maximum over what is left of the grid, linear head.

    Attributes:
      num_classes: number of classes, the width of the logits.
      width: number of channels of the stem; the stages have 2, 4 and 8 times as many. The source has 64: 6,573,120
        parameters for 3 channels and 10 classes.
      scale: factor of the logits; a small one keeps the first steps small.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 10
    width: int = 64
    scale: float = 0.125
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] of at least 8×8 -> logits [batch, num_classes].

        Raises: InputError if x is not of rank 4, its images are smaller, or a width is not positive.
        """
        check_positive(self, "num_classes", "width")
        if x.ndim != 4 or min(x.shape[1:3]) < 8:
            raise InputError(
                f"ResNet9 needs images [batch, height, width, channel] of at least 8×8; it was given shape {x.shape}."
            )

        def convolution(x, features, name):
            conv = Conv(features, 3, **precision(self), name=f"{name}_conv")
            return nn.relu(batch_norm(self, train, name=f"{name}_bn")(conv(x)))

        x = convolution(x.astype(self.dtype), self.width, "stem")
        for stage, residual in enumerate((True, False, True), 1):
            features = self.width * 2**stage
            x = max_pool(convolution(x, features, f"layer{stage}"), (2, 2))
            if residual:
                x = x + convolution(convolution(x, features, f"layer{stage}_res1"), features, f"layer{stage}_res2")
        x = x.max((1, 2))
        head = nn.Dense(self.num_classes, use_bias=False, **precision(self), name="head")
        x = self.scale * head(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def of_width(width: int, **fields: Any) -> ResNet9:
    """ResNet-9 of another width. `width` is the number of channels of the stem; `fields` are fields of `ResNet9`."""
    if width < 1:
        raise InputError(f"width is {width}; ResNet-9 needs at least 1 channel.")
    return ResNet9(width=width, **fields)
