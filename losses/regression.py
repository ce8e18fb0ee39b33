"""Losses of regressors. What optax has is used; this adds the checks and the precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def squared_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """(y − f)², of each entry; without the ½ that some textbooks and `optax.losses.l2_loss` have.

    Args:
      predictions: f, [batch, ...], any float type; computed in float32.
      targets: y, of the same shape, any real type.
    Returns: [batch, ...] float32.
    Raises: ValueError if the shapes differ.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"squared_loss wants predictions and targets of one shape; they are {predictions.shape}, {targets.shape}."
        )
    return optax.losses.squared_error(predictions.astype(jnp.float32), targets.astype(jnp.float32))
