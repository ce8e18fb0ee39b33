"""Normalization: batch, layer and group normalization with the constants of the papers, and AlexNet's response norm.

Moments take two passes over the data: E[x²] − E[x]² loses digits where the mean is large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from .precision import precision


def batch_norm(module: Any, train: bool, *, name: str, scale_init=nn.initializers.ones) -> nn.BatchNorm:
    """BatchNorm with the paper's constants, as torch has them: running averages decay by 0.9 a step.

    PyTorch's running variance is the unbiased one, this is the biased one of the batch; the two differ by
    n / (n - 1).
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        axis_name=module.axis_name if train else None,
        # E[x²] − E[x]² loses digits where the mean is large; two passes do not.
        use_fast_variance=False,
        **precision(module),
        scale_init=scale_init,
        name=name,
    )


def layer_norm(module: Any, name: str, epsilon: float = 1e-6) -> nn.LayerNorm:
    """LayerNorm, by default with the ε of vision transformers (timm's and the authors')."""
    return nn.LayerNorm(
        epsilon=epsilon,
        # E[x²] − E[x]² loses digits where the mean is large; two passes do not.
        use_fast_variance=False,
        **precision(module),
        name=name,
    )


class GroupNorm(nn.Module):
    """Each group of channels of an example gets mean 0 and variance 1, then each channel its scale and shift.

    (Wu & He 2018.) Only the input is kept for the backward pass: computing the rest again costs less than writing it to
    memory and reading it, and the activation is free.

    Attributes:
      groups: largest number of groups; see `num_groups`.
      activation: activation after normalization, scale and shift; by default none.
      dtype: data type of the output. The computation is float32 at least.
      param_dtype: data type of the parameters.
    """

    groups: int = 32
    activation: Callable[[jax.Array], jax.Array] | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, scale: jax.Array | None = None, shift: jax.Array | None = None) -> jax.Array:
        """[batch, height, width, channel] -> the same.

        Args:
          x: [batch, height, width, channel].
          scale: [batch or 1, channel]; the result is multiplied by 1 + scale before the activation. Or None.
          shift: [batch or 1, channel], which is added then. Both are given, or neither.
        """
        channels = x.shape[-1]
        own_scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        own_shift = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        factor, term = own_scale.astype(wide), own_shift.astype(wide)
        if scale is not None and shift is not None:
            scale, shift = 1 + scale.astype(wide), shift.astype(wide)
            factor, term = factor * scale, term * scale + shift
        groups = num_groups(channels, self.groups)

        @jax.checkpoint
        def normalized(x, factor, term):
            y = group_norm(x.astype(wide), factor[..., None, None, :], term[..., None, None, :], groups)
            return (y if self.activation is None else self.activation(y)).astype(self.dtype)

        return normalized(x, factor, term)


def group_norm(x: jax.Array, scale: jax.Array, shift: jax.Array, groups: int) -> jax.Array:
    """Each group of channels of an example gets mean 0 and variance 1 (but for ε = 1e-6), then · scale + shift.

    Both moments take a pass of their own: E[x²] − E[x]² loses digits where the mean is large.

    Args:
      x: [batch, height, width, channel].
      scale, shift: broadcast to x.
      groups: how many; they divide the channels.
    Returns: same shape as `x`.
    """

    def mean(x):
        """[batch, 1, 1, channel]. First over the grid, where vector units can sum many channels at once."""
        means = x.mean((1, 2)).reshape(len(x), groups, -1)
        return jnp.broadcast_to(means.mean(-1, keepdims=True), means.shape).reshape(len(x), 1, 1, -1)

    x = x - mean(x)
    return x * (jax.lax.rsqrt(mean(x**2) + 1e-6) * scale) + shift


FEWEST_CHANNELS = 4  # of a group: 128 channels in 32 groups


def num_groups(channels: int, most: int) -> int:
    """Number of equal groups of channels: as many as possible, up to `most`, of at least 4 channels each."""
    if most < 1:
        raise InputError(f"groups is {most}; it must be at least 1.")
    return next(n for n in range(max(1, min(most, channels // FEWEST_CHANNELS)), 0, -1) if channels % n == 0)


def local_response_norm(
    x: jax.Array, *, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """x / (k + α Σ x²)^β, where the sum is over the `size` channels around each.

    The paper's α multiplies the plain sum. PyTorch's LocalResponseNorm divides the sum by `size`, so that its α is
    `size` times this one.

    Args:
      x: [..., channel].
      size: n, odd number of channels.
      k: the paper's constant (section 3.3).
      alpha: factor of the sum, ibid.
      beta: exponent, ibid.
    Returns: same shape as `x`. The sum is taken in float32 at least.
    Raises: InputError if `size` is even or not positive.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"size is {size}; local response normalization needs an odd number of channels.")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squares = jnp.pad(wide**2, [(0, 0)] * (x.ndim - 1) + [(size // 2, size // 2)])
    around = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return (wide * (k + alpha * around) ** -beta).astype(x.dtype)
