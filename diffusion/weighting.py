"""Weightings: how much the error of a prediction counts at each noise level.

A weighting is a function (prediction, level) -> weight of the squared error of that prediction. An error δ of x_0 is an
error δ α/σ of ε. To weight the error of x_0 in the same way whatever a network predicts, the weights are divided by
(error of the prediction / error of x_0)². That ratio of errors is the determinant in `split` over σ.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import InputError
from .prediction import coefficients
from .schedules import Level

Weighting = Callable[[str, Level], jax.Array]
"""(prediction, level) -> weight of the squared error, same shape as the level."""


def simple(prediction: str, level: Level) -> jax.Array:
    """Weight 1: the squared error of whatever is predicted (Ho et al. 2020, equation 14)."""
    coefficients(prediction, level)
    return jnp.ones_like(level.alpha)


def snr(prediction: str, level: Level) -> jax.Array:
    """Weight SNR for the error of x_0, which is weight 1 for the error of ε.

    Args:
      prediction: kind of prediction; see `target`.
      level: noise level, any shape.
    Returns: weight, same shape.
    Raises: InputError for another prediction.

    >>> print(snr("x0", Level(jnp.array(0.8), jnp.array(0.4))).round(3))  # (0.8 / 0.4)²
    4.0
    """
    return _of_prediction(jnp.exp(level.log_snr), prediction, level)


def min_snr(gamma: float = 5.0) -> Weighting:
    """Weight min(SNR, γ) for the error of x_0: nearly clean images, which are easy, do not outweigh all others.

    Args:
      gamma: γ > 0. May be traced.
    Returns: a weighting.
    Raises: InputError if a concrete γ is not positive.
    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", equation 8.
    """
    if isinstance(gamma, int | float) and not gamma > 0:
        raise InputError(f"gamma is {gamma}; it must be positive.")

    def weighting(prediction: str, level: Level) -> jax.Array:
        return _of_prediction(jnp.minimum(jnp.exp(level.log_snr), gamma), prediction, level)

    return weighting


def _of_prediction(weight: jax.Array, prediction: str, level: Level) -> jax.Array:
    """A weight of the error of x_0 over (error of the prediction / error of x_0)²."""
    a, b = coefficients(prediction, level)
    scale = ((level.alpha * b - level.sigma * a) / level.sigma) ** 2
    # Where α = 0, an ε-prediction says nothing about x_0. There and nearby both are SNR, so their ratio is 1.
    return jnp.where(scale > 0, weight / scale, 1.0)
