"""Losses of classifiers. They use optax where it has the formula, and add checks and float32 precision."""

from __future__ import annotations

import jax
import jax.core
import jax.numpy as jnp
import optax

from ..errors import InputError


def cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float | jax.Array = 0.0) -> jax.Array:
    """Softmax cross-entropy −Σ_k q_k log softmax(logits)_k in nats, with q = (1 − s)·label + s / classes.

    Args:
      logits: [batch, classes], any float type; computed in float32.
      labels: [batch] integers in [0, classes); or [batch, classes] float probabilities, such as `data.mixing` makes. An
        integer stands for the row that is 1 at that class.
      label_smoothing: s in [0, 1) (Szegedy et al. 2016, section 7). May be traced.
    Returns: [batch] float32, stable at extreme logits.
    Raises: InputError if shapes or dtypes do not fit, or if a concrete s is out of range.

    >>> logits = jnp.array([[0.0, 0.0], [20.0, 0.0], [20.0, 0.0]])
    >>> print(cross_entropy(logits, jnp.array([0, 0, 1])).round(3))  # undecided: log 2; sure and right; sure and wrong
    [ 0.693  0.    20.   ]
    """
    integers = labels.shape == logits.shape[:1] and jnp.issubdtype(labels.dtype, jnp.integer)
    probabilities = labels.shape == logits.shape and jnp.issubdtype(labels.dtype, jnp.floating)
    if logits.ndim != 2 or not (integers or probabilities):
        raise InputError(
            "cross_entropy expects logits [batch, classes] and labels, integer [batch] or float [batch, classes]; "
            f"got {logits.shape} and {labels.shape} {labels.dtype}."
        )
    traced = isinstance(label_smoothing, jax.core.Tracer)
    if not traced and not 0 <= label_smoothing < 1:
        raise InputError(f"label_smoothing is {label_smoothing}; it must be in [0, 1).")
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
    """log(1 + e^(−y f)) in nats: the loss of a binary classifier with P(y = 1) = 1 / (1 + e^(−f)).

    The lecture's slide has a minus sign before the logarithm. Without it the loss is positive, and equals two-class
    `cross_entropy` of the logits (0, f). `optax.losses.sigmoid_binary_cross_entropy` is the same loss for labels 0 and
    1.

    Args:
      scores: f, [batch, ...], any float type; computed in float32.
      signs: y, same shape: −1 or 1, integers or floats.
    Returns: [batch, ...] float32, stable at extreme scores.
    Raises: InputError if the shapes differ.

    >>> print(log_loss(jnp.array([0.0, 20.0, 20.0]), jnp.array([1, 1, -1])).round(3))
    [ 0.693  0.    20.   ]
    """
    if scores.shape != signs.shape:
        raise InputError(f"log_loss expects scores and signs of one shape; got {scores.shape} and {signs.shape}.")
    return jax.nn.softplus(-signs.astype(jnp.float32) * scores.astype(jnp.float32))
