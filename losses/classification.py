"""Losses of classifiers. What optax has is used; this adds the checks and the precision."""

from __future__ import annotations

import jax
import jax.core
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float | jax.Array = 0.0) -> jax.Array:
    """Softmax cross-entropy −Σ_k q_k log softmax(logits)_k in nats, q = (1 − s)·label + s / classes.

    Args:
      logits: [batch, classes], any float type; computed in float32.
      labels: [batch], integers in [0, classes), each short for the row of probabilities that is 1 there; or those rows
        themselves, [batch, classes] float, as `data.mixing` makes them.
      label_smoothing: s in [0, 1) (Szegedy et al. 2016, section 7). May be traced.
    Returns: [batch] float32, stable at extreme logits.
    Raises: ValueError if shapes or dtypes do not fit or a concrete s is out of range.
    """
    integers = labels.shape == logits.shape[:1] and jnp.issubdtype(labels.dtype, jnp.integer)
    probabilities = labels.shape == logits.shape and jnp.issubdtype(labels.dtype, jnp.floating)
    if logits.ndim != 2 or not (integers or probabilities):
        raise ValueError(
            "cross_entropy wants logits [batch, classes] and integer labels [batch] or float labels [batch, classes]; "
            f"they are {logits.shape}, {labels.shape} {labels.dtype}."
        )
    traced = isinstance(label_smoothing, jax.core.Tracer)
    if not traced and not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1).")
    logits = logits.astype(jnp.float32)
    if integers:
        sharp = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    else:
        sharp = optax.losses.softmax_cross_entropy(logits, labels.astype(jnp.float32))
    if not traced and label_smoothing == 0:
        return sharp
    uniform = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - label_smoothing) * sharp + label_smoothing * uniform


def log_loss(scores: jax.Array, signs: jax.Array) -> jax.Array:
    """log(1 + e^(−y f)) in nats: the loss of a binary classifier whose P(y = 1) is 1 / (1 + e^(−f)).

    The lecture's slide has a minus before the logarithm; without it the loss is positive, and the same as two-class
    `cross_entropy` of the logits (0, f). `optax.losses.sigmoid_binary_cross_entropy` is this with labels 0 and 1.

    Args:
      scores: f, [batch, ...], any float type; computed in float32.
      signs: y, of the same shape: −1 or 1, integers or floats.
    Returns: [batch, ...] float32, stable at extreme scores.
    Raises: ValueError if the shapes differ.
    """
    if scores.shape != signs.shape:
        raise ValueError(f"log_loss wants scores and signs of one shape; they are {scores.shape}, {signs.shape}.")
    return jax.nn.softplus(-signs.astype(jnp.float32) * scores.astype(jnp.float32))
