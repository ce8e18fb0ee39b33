"""Losses of regressors. They use optax where it has the formula, and add checks and float32 precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from ..errors import InputError


def squared_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """(y − f)² of each entry, without the ½ of some textbooks and of `optax.losses.l2_loss`.

    Args:
      predictions: f, [batch, ...], any float type; computed in float32.
      targets: y, same shape, any real type.
    Returns: [batch, ...] float32.
    Raises: InputError if the shapes differ.

    >>> print(squared_loss(jnp.array([1.0, 2.0]), jnp.array([4, 2])))
    [9. 0.]
    """
    if predictions.shape != targets.shape:
        raise InputError(
            f"squared_loss expects predictions and targets of one shape; got {predictions.shape} and {targets.shape}."
        )
    return optax.losses.squared_error(predictions.astype(jnp.float32), targets.astype(jnp.float32))
