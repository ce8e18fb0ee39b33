"""Weightings: how much the error of a prediction counts at each noise level.

A weighting is a function (prediction, level) -> weight of the squared error of that prediction. An error δ of x_0 is an
error δ α/σ of ε. To weight the error of x_0 in the same way whatever a network predicts, the weights are divided by
(error of the prediction / error of x_0)². That ratio of errors is the determinant of the equations in `split` over σ.
So the weight is (α / determinant)² for SNR, and (σ / determinant)² for 1; where σ or α is 0, it is the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..errors import InputError
from .prediction import coefficients
from .schedules import Level, is_concrete

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
    Returns: weight, same shape; ∞ for an x0-prediction at σ = 0.
    Raises: InputError for another prediction.

    >>> print(snr("x0", Level(jnp.array(0.8), jnp.array(0.4))).round(3))  # (0.8 / 0.4)²
    4.0
    """
    return _ratio(level.alpha, _determinant(prediction, level)) ** 2


def min_snr(gamma: float = 5.0) -> Weighting:
    """Weight min(SNR, γ) for the error of x_0: nearly clean images, which are easy, do not outweigh all others.

    Args:
      gamma: γ > 0. May be traced.
    Returns: a weighting.
    Raises: InputError if a concrete γ is not positive and finite.
    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", equation 8.
    """
    if is_concrete(gamma) and not (gamma > 0 and math.isfinite(gamma)):
        raise InputError(f"gamma is {gamma}; it must be positive and finite. Without a limit the weighting is `snr`.")

    def weighting(prediction: str, level: Level) -> jax.Array:
        (alpha, sigma), determinant = level, _determinant(prediction, level)
        cut_off = gamma * _ratio(sigma, determinant) ** 2
        return jnp.where(alpha**2 < gamma * sigma**2, _ratio(alpha, determinant) ** 2, cut_off)

    return weighting


def _determinant(prediction: str, level: Level) -> jax.Array:
    """σ · (error of the prediction / error of x_0), but for the sign."""
    a, b = coefficients(prediction, level)
    return level.alpha * b - level.sigma * a


def _ratio(part: jax.Array, determinant: jax.Array) -> jax.Array:
    """α or σ over the determinant. Where both are 0, they are equal nearby: α for an ε-prediction, σ for an image."""
    both = (part == 0) & (determinant == 0)
    return jnp.where(both, 1, part / jnp.where(both, 1, determinant))
