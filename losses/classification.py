"""Losses of classifiers. What optax has is used; this adds the checks and the precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy −Σ_k q_k log softmax(logits)_k in nats, q = (1 − s)·onehot(label) + s / classes.

    Args:
      logits: [batch, classes], any float type; computed in float32.
      labels: [batch], integers in [0, classes).
      label_smoothing: s in [0, 1) (Szegedy et al. 2016, section 7).
    Returns: [batch] float32, stable at extreme logits.
    Raises: ValueError if the shapes do not fit or s is out of range.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy wants logits [batch, classes] and labels [batch]; they are {logits.shape}, {labels.shape}."
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1).")
    logits = logits.astype(jnp.float32)
    sharp = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing == 0:
        return sharp
    uniform = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - label_smoothing) * sharp + label_smoothing * uniform
