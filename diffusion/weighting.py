"""How much the error of a prediction counts at each noise level.

A weighting is a function (prediction, level) -> weight of the squared error of that prediction. An error δ of x_0 is
one of δ α/σ of ε: the same network is trained with the same weights of the error of x_0, whatever it predicts, if these
are divided by (error of the prediction / error of x_0)². That factor is the determinant of `split` over σ.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .prediction import coefficients
from .schedules import Level

Weighting = Callable[[str, Level], jax.Array]


def simple(prediction: str, level: Level) -> jax.Array:
    """1: the squared error of whatever is predicted (Ho et al. 2020, equation 14)."""
    coefficients(prediction, level)
    return jnp.ones_like(level.alpha)


def snr(prediction: str, level: Level) -> jax.Array:
    """SNR as the weight of the error of x_0, which is 1 of the error of ε."""
    return _of_prediction(jnp.exp(level.log_snr), prediction, level)


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(SNR, γ) as the weight of the error of x_0: nearly clean images, easy, do not outweigh all others.

    Args:
      gamma: γ > 0. May be traced.
    Raises: ValueError for a concrete γ that is not positive.
    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", equation 8.
    """
    if isinstance(gamma, int | float) and not gamma > 0:
        raise ValueError(f"gamma is {gamma}; it must be positive.")
    return lambda prediction, level: _of_prediction(
        jnp.minimum(jnp.exp(level.log_snr), gamma), prediction, level
    )  # fmt: skip


def _of_prediction(weight, prediction, level):
    """A weight of the error of x_0 over (error of the prediction / error of x_0)²."""
    a, b = coefficients(prediction, level)
    scale = ((level.alpha * b - level.sigma * a) / level.sigma) ** 2
    # An ε-prediction says nothing of x_0 where α = 0. Both are SNR there and nearby, and so their ratio is 1.
    return jnp.where(scale > 0, weight / scale, 1.0)
