"""What a network predicts of x_t = α x_0 + σ ε, and how one prediction tells every other.

Each is a combination a x_0 + b ε, a row of one table. With x_t these are two linear equations for x_0 and ε: `split`
solves them, and no pair of predictions needs a formula of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .schedules import Level, NoiseSchedule

# (x_t [batch, …], t []) -> the estimate of x_0, of x_t's shape.
Denoiser = Callable[[jax.Array, jax.Array], jax.Array]

# name -> level -> (a, b) of the prediction a x_0 + b ε.
PREDICTIONS: dict[str, Callable[[Level], tuple]] = {
    "x0": lambda level: (jnp.ones_like(level.alpha), jnp.zeros_like(level.alpha)),
    "epsilon": lambda level: (jnp.zeros_like(level.alpha), jnp.ones_like(level.alpha)),  # Ho et al. 2020
    "v": lambda level: (-level.sigma, level.alpha),  # Salimans & Ho 2022, appendix D
    # dx_t/dt of rectified flow (Liu et al. 2022)
    "flow": lambda level: (-jnp.ones_like(level.alpha), jnp.ones_like(level.alpha)),
}


def target(prediction: str, x0: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
    """What a perfect network would predict.

    Args:
      prediction: "x0", "epsilon", "v" = α ε − σ x_0, or "flow" = ε − x_0.
      x0: [batch, …].
      noise: of the same shape.
      level: [batch] or [].
    Returns: as x0.
    Raises: ValueError for another prediction.
    """
    a, b = Level(*coefficients(prediction, level)).like(x0)
    return a * x0 + b * noise


def split(prediction: str, predicted: jax.Array, x: jax.Array, level: Level) -> tuple[jax.Array, jax.Array]:
    """(x_0, ε) that a prediction amounts to.

    Args:
      prediction: see `target`.
      predicted: what the network gave, [batch, …].
      x: x_t, of the same shape.
      level: of x_t, [batch] or []. An x0-prediction tells no ε at σ = 0, and an ε-prediction no x_0 at α = 0.
    Raises: ValueError for another prediction.
    """
    (a, b), (alpha, sigma) = Level(*coefficients(prediction, level)).like(x), level.like(x)
    determinant = alpha * b - sigma * a
    return (b * x - sigma * predicted) / determinant, (alpha * predicted - a * x) / determinant


def convert(prediction: str, to: str, predicted: jax.Array, x: jax.Array, level: Level) -> jax.Array:
    """One prediction as another. Args and raises: as of `split`."""
    return target(to, *split(prediction, predicted, x, level), level)


def denoiser(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    prediction: str,
    schedule: NoiseSchedule,
    *,
    threshold: Callable[[jax.Array], jax.Array] | None = None,
) -> Denoiser:
    """A network's prediction as an estimate of x_0: what samplers and the bound ask for.

    Args:
      predict: (x_t [batch, …], times [batch]) -> the prediction.
      prediction: which, see `target`.
      schedule: that the network was trained with.
      threshold: of the estimate, such as `lambda x: x.clip(-1, 1)` where images are known to be in that range.
    Raises: ValueError for another prediction.
    """
    coefficients(prediction, schedule(0.5))

    def denoise(x, t):
        t = jnp.asarray(t, jnp.float32)
        x0, _ = split(prediction, predict(x, jnp.broadcast_to(t, len(x))), x, schedule(t))
        return x0 if threshold is None else threshold(x0)

    return denoise


def coefficients(prediction: str, level: Level) -> tuple:
    """(a, b) of a prediction a x_0 + b ε. Raises: ValueError for one that is not in `PREDICTIONS`."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"There is no prediction {prediction!r}. Valid are: {', '.join(PREDICTIONS)}.")
    return PREDICTIONS[prediction](level)
