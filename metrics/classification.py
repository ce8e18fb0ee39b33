"""Metrics of classifiers, one value per example. The caller reduces them with the right mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..errors import InputError


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the largest logit is that of the label, else 0. Among equal logits, the first one counts.

    Args:
      logits: [batch, classes].
      labels: [batch] integers; or [batch, classes] float probabilities, of which the largest counts as the label.
    Returns: [batch] float32.
    Raises: InputError if shapes or dtypes do not fit.

    >>> print(accuracy(jnp.array([[0.1, 2.0], [3.0, 1.0]]), jnp.array([1, 1])))
    [1. 0.]
    """
    if logits.ndim != 2 or not logits.shape[1] or labels.shape not in (logits.shape[:1], logits.shape):
        raise InputError(
            "accuracy expects logits [batch, classes] and labels [batch] or [batch, classes]; got "
            f"{logits.shape} and {labels.shape}."
        )
    wanted = jnp.integer if labels.ndim == 1 else jnp.floating
    if not jnp.issubdtype(labels.dtype, wanted):
        raise InputError(
            f"accuracy expects integer labels [batch] or float labels [batch, classes]; got {labels.dtype} "
            f"{labels.shape}."
        )
    classes = labels if labels.ndim == 1 else labels.argmax(-1)
    return (logits.argmax(-1) == classes).astype(jnp.float32)
