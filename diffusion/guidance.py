"""Classifier-free guidance: away from what would be drawn without a condition, towards what is drawn with one.

The scale is that of Imagen and of most code: 1 is the conditional model, 0 the unconditional one. (Ho & Salimans write
w for this scale minus 1.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def guide(conditional: jax.Array, unconditional: jax.Array, scale: ArrayLike, *, rescale: ArrayLike = 0.0) -> jax.Array:
    """unconditional + scale · (conditional − unconditional), of any prediction: all are linear in one another.

    Args:
      conditional: prediction [batch, …] for the condition.
      unconditional: for none.
      scale: 1 for the conditional prediction; may be traced.
      rescale: φ in [0, 1], how far the standard deviation of each guided prediction, which large scales blow up, is
        drawn back to that of the conditional one. May be traced. A prediction without any spread stays as it is.
    Returns: [batch, …].
    Raises: ValueError for a concrete scale that is not finite, or a concrete rescale outside [0, 1].
    Source: Ho & Salimans 2021, equation 6; Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are
      Flawed", equations 14 to 16.
    """
    _check(scale, rescale)
    guided = unconditional + scale * (conditional - unconditional)
    if isinstance(rescale, int | float) and rescale == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    spread = guided.std(axes, keepdims=True)
    # A network whose last layer begins at 0, as ours do, predicts 0 everywhere before it is trained.
    ratio = jnp.where(spread > 0, conditional.std(axes, keepdims=True) / spread, 1)
    return guided * (rescale * ratio + 1 - rescale)


def _check(scale, rescale):
    if isinstance(scale, int | float) and not math.isfinite(scale):
        raise ValueError(f"The scale of guidance is {scale}; it must be finite.")
    if isinstance(rescale, int | float) and not 0 <= rescale <= 1:
        raise ValueError(f"rescale is {rescale}; it must be in [0, 1].")


def guided(
    predict: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    labels: jax.Array,
    null_label: int,
    scale: ArrayLike,
    *,
    rescale: ArrayLike = 0.0,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A network with labels as one without: guided towards given ones. For `denoiser`.

    Args:
      predict: (x_t [batch, …], times [batch], labels [batch]) -> prediction. It sees both halves as one batch.
      labels: integers [batch].
      null_label: that stands for no condition.
      scale: see `guide`; a concrete 1 costs one pass of the network, all others two.
      rescale: see `guide`.
    Returns: (x_t, times [batch] or one for all) -> prediction; where that is a velocity, what `euler` takes.
    Raises: as of `guide`.
    """
    _check(scale, rescale)
    if isinstance(scale, int | float) and scale == 1:
        return lambda x, time: predict(x, jnp.broadcast_to(time, x.shape[:1]), labels)

    def prediction(x, time):
        time = jnp.broadcast_to(time, x.shape[:1])
        both = predict(
            jnp.concatenate([x, x]),
            jnp.concatenate([time, time]),
            jnp.concatenate([labels, jnp.full_like(labels, null_label)]),
        )
        conditional, unconditional = jnp.split(both, 2)
        return guide(conditional, unconditional, scale, rescale=rescale)

    return prediction
