"""Dropout and stochastic depth: random noise in training, the identity at prediction.

Rates may be traced, so that a population can vary them.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...errors import InputError


def dropout(key: jax.Array, x: jax.Array, rate: ArrayLike, *, shared_axes: tuple[int, ...] = ()) -> jax.Array:
    """Sets entries to 0 with probability `rate` and scales the others by 1 / (1 − rate), which keeps the mean.

    Read as an ensemble, each draw is one thinned network, and the network without dropout is about their average
    (Srivastava et al. 2014, section 1).

    Args:
      key: one random key.
      x: any shape.
      rate: probability in [0, 1]; at 1 everything is 0. May be traced.
      shared_axes: axes along which entries are dropped together: all but the first for `stochastic_depth`.
    Returns: same shape as `x`.
    Raises: InputError for a concrete rate outside [0, 1].
    """
    if isinstance(rate, int | float) and not 0 <= rate <= 1:
        raise InputError(f"The rate of dropout is {rate}; it must be in [0, 1].")
    rate = jnp.asarray(rate, jnp.float32)
    shape = [1 if axis in shared_axes else size for axis, size in enumerate(x.shape)]
    kept = jax.random.uniform(key, shape) >= rate
    scale = jnp.where(rate < 1, 1 / jnp.maximum(1 - rate, jnp.finfo(jnp.float32).tiny), 0)
    return x * jnp.where(kept, scale, 0).astype(x.dtype)


def stochastic_depth(key: jax.Array, branch: jax.Array, rate: ArrayLike) -> jax.Array:
    """Drops the residual branch of whole examples with probability `rate` and scales the others by 1 / (1 − rate).

    Huang et al. 2016 scale at prediction instead, which is the same in the mean. timm calls it drop path.

    Args:
      key: one random key.
      branch: [batch, ...], before it is added to its shortcut.
      rate: same as in `dropout`.
    Returns: same shape as `branch`.
    Raises: InputError for a concrete rate outside [0, 1].
    """
    return dropout(key, branch, rate, shared_axes=tuple(range(1, branch.ndim)))


class Dropout(nn.Module):
    """`dropout` in training, the identity at prediction. Draws from the stream "dropout".

    Attributes:
      rate: dropout rate; may be traced. A concrete 0 costs nothing.
      whole_examples: `stochastic_depth` instead of `dropout`.
    """

    rate: float | jax.Array = 0.0
    whole_examples: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Any shape -> the same."""
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        drop = stochastic_depth if self.whole_examples else dropout
        return drop(self.make_rng("dropout"), x, self.rate)
