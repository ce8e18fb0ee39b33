"""Metrics of classifiers, per example: the caller reduces with the right mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the largest logit is the label's, else 0.

    Args:
      logits: [batch, classes].
      labels: [batch] integers.
    Returns: [batch] float32.
    Raises: ValueError if the shapes do not fit or the labels are not integers.
    """
    if logits.ndim != 2 or not logits.shape[1] or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"accuracy wants logits [batch, classes] and labels [batch]; they are {logits.shape}, {labels.shape}."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"accuracy wants integer labels; they are {labels.dtype}.")
    return (logits.argmax(-1) == labels).astype(jnp.float32)
