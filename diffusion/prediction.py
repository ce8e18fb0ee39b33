"""What a network predicts of x_t = α x_0 + σ ε, and how to convert one kind of prediction into another.

Each kind is a combination a x_0 + b ε, a row of one table. Together with x_t it gives two linear equations for x_0 and
ε. `split` solves them, so no pair of predictions needs a formula of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import InputError
from .schedules import Level, NoiseSchedule

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
"""(x_t [batch, …], t []) -> estimate of x_0, same shape as x_t."""

PREDICTIONS: dict[str, Callable[[Level], tuple[jax.Array, jax.Array]]] = {
    "x0": lambda level: (jnp.ones_like(level.alpha), jnp.zeros_like(level.alpha)),
    "epsilon": lambda level: (jnp.zeros_like(level.alpha), jnp.ones_like(level.alpha)),  # Ho et al. 2020
    "v": lambda level: (-level.sigma, level.alpha),  # Salimans & Ho 2022, appendix D
    # dx_t/dt of rectified flow (Liu et al. 2022)
    "flow": lambda level: (-jnp.ones_like(level.alpha), jnp.ones_like(level.alpha)),
}
"""name -> (level -> (a, b)) for the prediction a x_0 + b ε."""


def target(prediction: str, x0: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
    """What a perfect network would predict.

    Args:
      prediction: "x0", "epsilon", "v" = α ε − σ x_0, or "flow" = ε − x_0.
      x0: the images, [batch, …].
      noise: ε, same shape.
      level: noise level, [batch] or [].
    Returns: the target, same shape as `x0`.
    Raises: InputError for another prediction.

    >>> x0, noise = jnp.array([[1.0]]), jnp.array([[2.0]])
    >>> print(target("v", x0, noise, Level(jnp.array(0.6), jnp.array(0.8))).round(3))  # 0.6 · 2 − 0.8 · 1
    [[0.4]]
    """
    a, b = Level(*coefficients(prediction, level)).like(x0)
    return a * x0 + b * noise


def split(prediction: str, predicted: jax.Array, x: jax.Array, level: Level) -> tuple[jax.Array, jax.Array]:
    """(x_0, ε) that a prediction implies.

    Args:
      prediction: kind of prediction; see `target`.
      predicted: the output of the network, [batch, …].
      x: x_t, same shape.
      level: noise level of x_t, [batch] or []. An x0-prediction says nothing about ε at σ = 0, and an ε-prediction
        nothing about x_0 at α = 0.
    Returns: estimates of x_0 and ε, same shape as `x`.
    Raises: InputError for another prediction.
    """
    (a, b), (alpha, sigma) = Level(*coefficients(prediction, level)).like(x), level.like(x)
    determinant = alpha * b - sigma * a
    return (b * x - sigma * predicted) / determinant, (alpha * predicted - a * x) / determinant


def convert(prediction: str, to: str, predicted: jax.Array, x: jax.Array, level: Level) -> jax.Array:
    """Converts one kind of prediction into another.

    Args:
      prediction: the kind it is; see `target`.
      to: the kind it becomes.
      predicted: the output of the network, [batch, …].
      x: x_t, same shape.
      level: noise level of x_t, [batch] or [].
    Returns: the converted prediction, same shape.
    Raises: InputError for another prediction.

    >>> level = Level(jnp.array(0.6), jnp.array(0.8))  # x_t = 0.6 · 1 + 0.8 · 2
    >>> print(convert("epsilon", "x0", jnp.array([[2.0]]), jnp.array([[2.2]]), level).round(3))
    [[1.]]
    """
    return target(to, *split(prediction, predicted, x, level), level)


def denoiser(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    prediction: str,
    schedule: NoiseSchedule,
    *,
    threshold: Callable[[jax.Array], jax.Array] | None = None,
) -> Denoiser:
    """Turns the prediction of a network into an estimate of x_0, which samplers and the bound need.

    Args:
      predict: the network, (x_t [batch, …], times [batch]) -> prediction.
      prediction: kind of prediction; see `target`.
      schedule: the noise schedule of the training.
      threshold: applied to the estimate, such as `lambda x: x.clip(-1, 1)` if images are known to be in that range.
    Returns: (x_t [batch, …], time []) -> estimate of x_0.
    Raises: InputError for another prediction.
    """
    coefficients(prediction, schedule(0.5))

    def denoise(x, t):
        t = jnp.asarray(t, jnp.float32)
        x0, _ = split(prediction, predict(x, jnp.broadcast_to(t, len(x))), x, schedule(t))
        return x0 if threshold is None else threshold(x0)

    return denoise


def coefficients(prediction: str, level: Level) -> tuple[jax.Array, jax.Array]:
    """(a, b) of a prediction a x_0 + b ε.

    Raises: InputError if the prediction is not in `PREDICTIONS`.
    """
    if prediction not in PREDICTIONS:
        raise InputError(f"There is no prediction {prediction!r}. Valid are: {', '.join(PREDICTIONS)}.")
    return PREDICTIONS[prediction](level)
