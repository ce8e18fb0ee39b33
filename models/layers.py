"""The layers that all networks here are made of. Every convolution goes through `conv`, and only through it.

One door for all convolutions, because their kernel gradient is the slow part on a CPU and can be computed
otherwise there without any network knowing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Variance 2 / fan-out keeps the size of gradients through ReLU layers (He et al. 2015b, section 2.2).
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    groups: int = 1,
) -> jax.Array:
    """2-D convolution as libraries mean it: cross-correlation, Σ x[i + k, j + l] w[k, l].

    The convolution of mathematics (and of the lecture's slides) has the kernel flipped along both axes.

    Args:
      x: [batch, height, width, channel].
      kernel: [height, width, channel / groups, features].
      strides: steps between outputs, vertical and horizontal.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)) zeros.
      groups: channels and features are cut into as many parts, each convolved alone.
    Returns: [batch, height', width', features].
    Raises: ValueError if the ranks are not 4 or the channels do not match.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"conv wants x and kernel of rank 4; they are {x.shape} and {kernel.shape}.")
    if x.shape[-1] != kernel.shape[2] * groups:
        raise ValueError(
            f"x has {x.shape[-1]} channels; the kernel {kernel.shape} wants {kernel.shape[2] * groups}."
        )
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


class Conv(nn.Module):
    """A square convolution that pads `kernel_size // 2` zeros on each side, whatever the stride, as PyTorch does.

    ("SAME" would pad a strided convolution unevenly.)
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = HE_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        size, pad = self.kernel_size, self.kernel_size // 2
        kernel = self.param(
            "kernel", self.kernel_init, (size, size, x.shape[-1], self.features), self.param_dtype
        )
        y = conv(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y
