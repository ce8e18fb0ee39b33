"""Focal losses: cross-entropy whose easy examples count little, for classes of very different frequencies.

Both multiply the cross-entropy by α·(1 − p)^γ, where p is the probability of the truth. The sigmoid form has a yes or
no for each class, as detectors have; the softmax form has one class per place. Everything is computed from logarithms
of probabilities, so that values and gradients are finite at extreme logits, for every γ ≥ 0.
"""

from __future__ import annotations

import jax
import jax.core
import jax.numpy as jnp

from ..errors import InputError


def sigmoid_focal_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float | jax.Array | None = 0.25,
    gamma: float | jax.Array = 2.0,
) -> jax.Array:
    """−α_t (1 − p_t)^γ log p_t in nats, where p_t is the probability that the sigmoid gives to the target.

    Detectors divide its sum by the number of objects, not by that of entries.

    Args:
      logits: [...], any float type; computed in float32.
      targets: [...], 0 or 1, or probabilities between them, which weigh the losses of 1 and 0.
      alpha: α_t is α for target 1 and 1 − α for target 0, in [0, 1]. None: no weights. May be traced.
      gamma: γ ≥ 0; 0 is the cross-entropy. May be traced.
    Returns: [...] float32.
    Raises: InputError if the shapes differ, or a concrete α or γ is out of range.
    Source: Lin et al. 2017, equation (5); α = 0.25 and γ = 2 are those of section 5.1.

    >>> logits = jnp.array([4.0, 0.0, -4.0])  # easy, undecided, wrong
    >>> [round(float(x), 3) for x in sigmoid_focal_loss(logits, jnp.ones(3), alpha=None)]
    [0.0, 0.173, 3.875]
    """
    if logits.shape != targets.shape:
        raise InputError(f"sigmoid_focal_loss expects one shape; got logits {logits.shape}, targets {targets.shape}.")
    _check_focus(alpha, gamma)
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    of_one, of_zero = -jnp.exp(gamma * no) * yes, -jnp.exp(gamma * yes) * no
    if alpha is not None:
        of_one, of_zero = alpha * of_one, (1 - alpha) * of_zero
    return targets * of_one + (1 - targets) * of_zero


def softmax_focal_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: jax.Array | None = None,
    gamma: float | jax.Array = 2.0,
) -> jax.Array:
    """−α_y (1 − p_y)^γ log p_y in nats, where p_y is the probability that the softmax gives to the label.

    Args:
      logits: [..., classes], any float type; computed in float32.
      labels: [...] integers in [0, classes); negative ones are ignored: their loss and its gradient are 0.
      alpha: [classes], a weight for each class. None: all are 1. May be traced.
      gamma: γ ≥ 0; 0 is the cross-entropy. May be traced.
    Returns: [...] float32. Divide sums by the number of labels that are not negative.
    Raises: InputError if shapes do not fit, labels are not integers, there are fewer than 2 classes, or a concrete γ is
      negative.
    Source: Lin et al. 2017, appendix A, the multi-class form.
    """
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer) or logits.shape[-1] < 2:
        raise InputError(
            "softmax_focal_loss expects logits [..., classes ≥ 2] and integer labels [...]; "
            f"got {logits.shape} and {labels.shape} {labels.dtype}."
        )
    if alpha is not None and alpha.shape != logits.shape[-1:]:
        raise InputError(f"There are {logits.shape[-1]} classes; alpha is {alpha.shape}.")
    _check_focus(None, gamma)
    known = labels >= 0
    truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)  # no class for negative labels
    logits = jnp.where(known[..., None], logits.astype(jnp.float32), 0)
    total = jax.nn.logsumexp(logits, -1)
    chosen = jnp.where(truth, logits, 0).sum(-1) - total
    others = jax.nn.logsumexp(jnp.where(truth, -jnp.inf, logits), -1) - total  # log(1 − p_y) without cancellation
    # Rounding may leave the logarithm of a probability a little above 0.
    losses = -jnp.exp(gamma * jnp.minimum(others, 0)) * jnp.minimum(chosen, 0)
    if alpha is not None:
        losses = losses * (truth * alpha).sum(-1)
    return jnp.where(known, losses, 0)


def _check_focus(alpha, gamma):
    if alpha is not None and not isinstance(alpha, jax.core.Tracer) and not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; it must be in [0, 1].")
    if not isinstance(gamma, jax.core.Tracer) and not gamma >= 0:
        raise InputError(f"gamma is {gamma}; it must be at least 0.")
