"""What a network predicts of x_t = α x_0 + σ ε, and how to convert one kind of prediction into another.

Each kind is a combination a x_0 + b ε, a row of one table. Together with x_t it gives two linear equations for x_0 and
ε. `split` solves them, so no pair of predictions needs a formula of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from .schedules import Level, NoiseSchedule, is_concrete

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
        nothing about x_0 at α = 0. There the estimate is NaN.
    Returns: estimates of x_0 and ε, same shape as `x`.
    Raises: InputError for another prediction or shape, or a concrete level at which it says nothing about one of the
      two.
    """
    x0, noise, determinant = _solved(prediction, predicted, x, level)
    if is_concrete(determinant) and not np.all(np.asarray(determinant)):
        raise InputError(
            f"The prediction {prediction} says nothing about "
            + ("x_0 where nothing is left of the image, at α = 0." if prediction == "epsilon" else "ε at σ = 0.")
        )
    return x0, noise


def _solved(prediction: str, predicted: jax.Array, x: jax.Array, level: Level) -> tuple[jax.Array, ...]:
    """(x_0, ε, determinant of the equations). A prediction of one of the two is right even where the other is NaN."""
    check_shape(predicted, x)
    (a, b), (alpha, sigma) = Level(*coefficients(prediction, level)).like(x), level.like(x)
    determinant = alpha * b - sigma * a
    # The divisors of the branches not taken are 1, so that gradients pass.
    x0 = jnp.where(b == 0, predicted, (b * x - sigma * predicted) / jnp.where(b == 0, 1, determinant))
    noise = jnp.where(a == 0, predicted, (alpha * predicted - a * x) / jnp.where(a == 0, 1, determinant))
    return x0, noise, determinant


def convert(prediction: str, to: str, predicted: jax.Array, x: jax.Array, level: Level) -> jax.Array:
    """Converts one kind of prediction into another.

    Args:
      prediction: the kind it is; see `target`.
      to: the kind it becomes.
      predicted: the output of the network, [batch, …].
      x: x_t, same shape.
      level: noise level of x_t, [batch] or [].
    Returns: the converted prediction, same shape.
    Raises: same as `split`.

    >>> level = Level(jnp.array(0.6), jnp.array(0.8))  # x_t = 0.6 · 1 + 0.8 · 2
    >>> print(convert("epsilon", "x0", jnp.array([[2.0]]), jnp.array([[2.2]]), level).round(3))
    [[1.]]
    """
    if to == prediction:
        coefficients(prediction, level)
        return predicted
    return target(to, *split(prediction, predicted, x, level), level)


def denoiser(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    prediction: str,
    schedule: NoiseSchedule,
    *,
    first: float = 1.0,
    threshold: Callable[[jax.Array], jax.Array] | None = None,
) -> Denoiser:
    """Turns the prediction of a network into an estimate of x_0, which samplers and the bound need.

    Args:
      predict: the network, (x_t [batch, …], times [batch]) -> prediction.
      prediction: kind of prediction; see `target`.
      schedule: the noise schedule of the training.
      first: the time at which sampling begins, the latest that the denoiser will be asked about.
      threshold: applied to the estimate, such as `lambda x: x.clip(-1, 1)` if images are known to be in that range.
    Returns: (x_t [batch, …], time []) -> estimate of x_0.
    Raises: InputError for another prediction, or an ε-prediction if the schedule has α = 0 at `first`: where x_t is
      noise alone, its noise says nothing about the image.
    """
    level = schedule(first)
    a, _ = coefficients(prediction, level)
    if is_concrete(level.alpha) and is_concrete(a) and not np.any(a) and not np.all(np.asarray(level.alpha) > 0):
        raise InputError(
            f"At time {first} nothing is left of the image, so an {prediction}-prediction says nothing about it. "
            "Train another prediction, or begin earlier: give `first`, the time at which sampling begins."
        )

    def denoise(x, t):
        t = jnp.asarray(t, jnp.float32)
        x0, *_ = _solved(prediction, predict(x, jnp.broadcast_to(t, len(x))), x, schedule(t))
        return x0 if threshold is None else threshold(x0)

    return denoise


def from_published(
    predict: Callable[[jax.Array, jax.Array], jax.Array], num_steps: int = 1000
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A network that counts its steps from 0, as published ones do, in the place of one that counts them from 1.

    The first noisy image, after one β, is step 1 of the paper and of `from_betas`, at time 1/T. The code of Ho et al.,
    of DiT and of diffusers calls it step 0, the last one T − 1, and their networks learned these numbers. So they are
    told an earlier time than the noise has. Networks that are trained here need none of this.

    Args:
      predict: a network with published weights: (x_t [batch, …], times [batch]) -> prediction, step i being time i/T.
      num_steps: T, the number of betas.
    Returns: (x_t, times [batch]) -> prediction, for `guided` and `denoiser`. Labels, if any, are handed on.
    Raises: InputError if `num_steps` is below 1.
    Source: https://github.com/hojonathanho/diffusion, diffusion_tf/diffusion_utils_2.py, whose `t` is an index of
      `betas`.

    >>> told = from_published(lambda x, times: times, num_steps=4)
    >>> print(told(jnp.ones((2, 3)), jnp.array([0.25, 1.0])))  # after 1 of 4 betas, and after all
    [0.   0.75]
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; it must be at least 1.")
    return lambda x, times, *labels: predict(x, times - 1 / num_steps, *labels)


def check_shape(predicted: jax.Array, x: jax.Array) -> None:
    """Raises InputError for a prediction that is not of the shape of x_t, and might be broadcast."""
    if predicted.shape != x.shape:
        raise InputError(
            f"The prediction has shape {predicted.shape}, and x_t {x.shape}. Of a network with a learned variance, "
            "which has twice the channels, give the first half; nothing here reads the other."
        )


def coefficients(prediction: str, level: Level) -> tuple[jax.Array, jax.Array]:
    """(a, b) of a prediction a x_0 + b ε.

    Raises: InputError if the prediction is not in `PREDICTIONS`.
    """
    if prediction not in PREDICTIONS:
        raise InputError(f"There is no prediction {prediction!r}. Valid are: {', '.join(PREDICTIONS)}.")
    return PREDICTIONS[prediction](level)
