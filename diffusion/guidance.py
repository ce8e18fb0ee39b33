"""Classifier-free guidance: away from the unconditional prediction, further towards the conditional one.

The scale is that of Imagen and of most code: 1 is the conditional model, 0 the unconditional one. (The w of Ho &
Salimans is this scale minus 1.)
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..errors import InputError
from .schedules import is_concrete, per_example


def guide(conditional: jax.Array, unconditional: jax.Array, scale: ArrayLike, *, rescale: ArrayLike = 0.0) -> jax.Array:
    """unconditional + scale · (conditional − unconditional), for any kind of prediction: all are linear in one another.

    Args:
      conditional: prediction with the condition, [batch, …].
      unconditional: prediction without it, same shape.
      scale: 1 gives the conditional prediction. [] or one per example, [batch]; may be traced.
      rescale: φ in [0, 1], [] or [batch]. Large scales inflate the standard deviation of the guided prediction; 1
        restores that of the conditional one, 0 leaves it. May be traced. A prediction without any spread does not
        change.
    Returns: the guided prediction, [batch, …].
    Raises: InputError if the shapes do not fit, a concrete scale is not finite, or a concrete rescale is outside
      [0, 1].
    Source: Ho & Salimans 2021, equation 6; Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are
      Flawed", equations 14 to 16.

    >>> print(guide(jnp.array([[3.0]]), jnp.array([[1.0]]), scale=2.0))  # as far again as from 1 to 3
    [[5.]]
    """
    _check(scale, rescale)
    if conditional.shape != unconditional.shape:
        raise InputError(f"The two predictions have shapes {conditional.shape} and {unconditional.shape}, not one.")
    guided = unconditional + per_example(scale, conditional) * (conditional - unconditional)
    if isinstance(rescale, int | float) and rescale == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdims=True)
    # A network whose last layer starts at 0, like ours, predicts 0 everywhere before training.
    ratio = jnp.where(spread > 0, conditional.std(axes, keepdims=True) / spread, 1)
    rescale = per_example(rescale, conditional)
    return guided * (rescale * ratio + 1 - rescale)


def _check(scale: ArrayLike, rescale: ArrayLike) -> None:
    if is_concrete(scale) and not np.isfinite(np.asarray(scale)).all():
        raise InputError(f"The guidance scale is {scale}; it must be finite.")
    if is_concrete(rescale) and not ((np.asarray(rescale) >= 0) & (np.asarray(rescale) <= 1)).all():
        raise InputError(f"rescale is {rescale}; it must be in [0, 1].")


def guided(
    predict: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    labels: jax.Array,
    null_label: int,
    scale: ArrayLike,
    *,
    rescale: ArrayLike = 0.0,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Turns a network with labels into one without: guided towards the given labels. For `denoiser`.

    Args:
      predict: (x_t [batch, …], times [batch], labels [batch]) -> prediction. It gets both halves as one batch.
      labels: [batch] integers.
      null_label: the label that stands for "no condition".
      scale: see `guide`. A concrete 1 costs one pass of the network, any other scale two.
      rescale: see `guide`.
    Returns: (x_t, times [batch] or []) -> prediction. If the prediction is a velocity, `euler` accepts it.
    Raises: same as `guide`; InputError if there is not one label for each example.
    """
    _check(scale, rescale)

    def check_labels(x):
        if labels.shape != x.shape[:1]:
            raise InputError(f"labels have shape {labels.shape}; expected one for each of {len(x)} examples.")

    def conditional(x, time):
        check_labels(x)
        return predict(x, jnp.broadcast_to(time, x.shape[:1]), labels)

    if isinstance(scale, int | float) and scale == 1:
        return conditional

    def prediction(x, time):
        check_labels(x)
        time = jnp.broadcast_to(time, x.shape[:1])
        both = predict(
            jnp.concatenate([x, x]),
            jnp.concatenate([time, time]),
            jnp.concatenate([labels, jnp.full_like(labels, null_label)]),
        )
        told, untold = jnp.split(both, 2)
        return guide(told, untold, scale, rescale=rescale)

    return prediction
