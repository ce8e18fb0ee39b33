"""The weighted mean as a total and a weight, so that parts of anything can be added before the one division.

Parts of a batch, replicas, hosts and evaluation batches each give a `Mean`; adding them and dividing once gives the
same number however the examples were cut. A mean of means would not, where parts weigh differently: ragged batches,
padded words, images without boxes.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Mean:
    """A weighted sum and the sum of its weights.

    Attributes:
      total: Σ wᵢ xᵢ, float32 of any shape.
      weight: Σ wᵢ, float32 of the same shape.

    >>> whole = Mean.of(jnp.array([1.0, 2.0, 6.0]))
    >>> parts = Mean.of(jnp.array([1.0])) + Mean.of(jnp.array([2.0, 6.0]))
    >>> float(whole.value), float(parts.value)
    (3.0, 3.0)
    >>> float(Mean.of(jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 0.0])).value)
    1.5
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: jax.Array, weights: jax.Array | None = None) -> Mean:
        """The mean of an array.

        Args:
          values: [batch, …].
          weights: one for each value or, with fewer axes, one for each leading index: [batch] weighs whole examples,
            [batch, length] words. None weighs all values alike. A value of weight 0 counts for nothing, even if it is
            not finite.
        Returns: a `Mean` of scalars, float32.
        """
        values = jnp.asarray(values, jnp.float32)
        weights = jnp.ones((), jnp.float32) if weights is None else jnp.asarray(weights, jnp.float32)
        weights = weights.reshape(*weights.shape, *[1] * (values.ndim - weights.ndim))
        weights = jnp.broadcast_to(weights, values.shape)
        return cls(jnp.where(weights == 0, 0, values * weights).sum(), weights.sum())

    @classmethod
    def once(cls, value: jax.Array) -> Mean:
        """A number that was measured once, with weight 1."""
        value = jnp.asarray(value, jnp.float32)
        return cls(value, jnp.ones_like(value))

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> jax.Array:
        """total / weight: NaN where nothing was counted."""
        return self.total / self.weight
