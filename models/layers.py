"""Layers that networks share and flax lacks, or has with other constants: convolution, normalisation, dropout.

Rates of dropout may be traced, so that a population can vary them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .convolution import conv

# Variance 2 / fan-out keeps the size of gradients through ReLU layers (He et al. 2015b, section 2.2).
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def check_positive(network: nn.Module, *fields: str) -> None:
    """Whether sizes that a user gives a network are at least 1.

    Args:
      network: with such fields.
      fields: their names; each holds a number or several.
    Raises: ValueError that names the field and what it holds.
    """
    for field in fields:
        value = getattr(network, field)
        if min(value if isinstance(value, Sequence) else (value,), default=1) < 1:
            raise ValueError(f"{type(network).__name__} wants {field} of at least 1; it is {value}.")


class Conv(nn.Module):
    """A square convolution that pads the same number of zeros on each side, whatever the stride, as PyTorch does.

    ("SAME" would pad a strided convolution unevenly.)

    padding: zeros on each side; by default kernel_size // 2.
    groups: into how many parts channels and features are cut, each convolved alone.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    use_bias: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = HE_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        size, pad = self.kernel_size, self.kernel_size // 2 if self.padding is None else self.padding
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = conv(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            groups=self.groups,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y


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
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        scale_init=scale_init,
        name=name,
    )


def dropout(
    key: jax.Array, x: jax.Array, rate: jax.typing.ArrayLike, *, shared_axes: tuple[int, ...] = ()
) -> jax.Array:
    """Sets entries to 0 with probability `rate` and scales the others by 1 / (1 − rate), so that the mean stays.

    Read as an ensemble, each draw is one thinned network, and the network without dropout is about their average
    (Srivastava et al. 2014, section 1).

    Args:
      key: one key.
      x: any shape.
      rate: in [0, 1); at 1 everything is 0. May be traced.
      shared_axes: axes along which entries fall together: all but the first for `stochastic_depth`.
    Returns: as `x`.
    Raises: ValueError for a concrete rate outside [0, 1].
    """
    if isinstance(rate, int | float) and not 0 <= rate <= 1:
        raise ValueError(f"The rate of dropout is {rate}; it must be in [0, 1].")
    rate = jnp.asarray(rate, jnp.float32)
    shape = [1 if axis in shared_axes else size for axis, size in enumerate(x.shape)]
    kept = jax.random.uniform(key, shape) >= rate
    scale = jnp.where(rate < 1, 1 / jnp.maximum(1 - rate, jnp.finfo(jnp.float32).tiny), 0)
    return x * jnp.where(kept, scale, 0).astype(x.dtype)


def stochastic_depth(key: jax.Array, branch: jax.Array, rate: jax.typing.ArrayLike) -> jax.Array:
    """Drops the residual branch of whole examples with probability `rate` and scales the others by 1 / (1 − rate).

    Huang et al. 2016 scale at prediction instead, which is the same in the mean. timm calls it drop path.

    Args:
      key: one key.
      branch: [batch, ...], what is about to be added to its shortcut.
      rate: as of `dropout`.
    Returns: as `branch`.
    Raises: ValueError for a concrete rate outside [0, 1].
    """
    return dropout(key, branch, rate, shared_axes=tuple(range(1, branch.ndim)))


class Dropout(nn.Module):
    """`dropout` in training, the identity at prediction. Draws from the stream "dropout".

    rate: may be traced; a concrete 0 costs nothing.
    whole_examples: `stochastic_depth` instead.
    """

    rate: Any = 0.0
    whole_examples: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Any shape -> the same."""
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        drop = stochastic_depth if self.whole_examples else dropout
        return drop(self.make_rng("dropout"), x, self.rate)
