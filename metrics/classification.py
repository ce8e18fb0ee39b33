"""Metrics of classifiers, per example: the caller reduces with the right mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the largest logit is the label's, else 0. Of equal ones, the first counts.

    Args:
      logits: [batch, classes].
      labels: [batch] integers; or [batch, classes] float probabilities, whose largest counts as the label.
    Returns: [batch] float32.
    Raises: ValueError if shapes or dtypes do not fit.
    """
    if logits.ndim != 2 or not logits.shape[1] or labels.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(
            "accuracy wants logits [batch, classes] and labels [batch] or [batch, classes]; they are "
            f"{logits.shape}, {labels.shape}."
        )
    wanted = jnp.integer if labels.ndim == 1 else jnp.floating
    if not jnp.issubdtype(labels.dtype, wanted):
        raise ValueError(
            f"accuracy wants integer labels [batch] or float labels [batch, classes]; they are {labels.dtype} "
            f"{labels.shape}."
        )
    classes = labels if labels.ndim == 1 else labels.argmax(-1)
    return (logits.argmax(-1) == classes).astype(jnp.float32)
