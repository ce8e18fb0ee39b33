"""Kullback-Leibler divergences between distributions in closed form, in nats, one number per example.

KL(q ‖ p) is the average extra cost of describing draws from q with a code made for p. It is at least 0 and not
symmetric.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..errors import InputError


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − 1 − log σ²), for independent entries.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², same shape.
    Returns: [batch] float32, nats.
    Raises: InputError if the shapes differ.
    Source: Kingma & Welling 2013, "Auto-encoding variational Bayes", appendix B.

    >>> mean = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    >>> print(gaussian_kl(mean, jnp.zeros((2, 2))))  # equal distributions; ½ (1² + 2²)
    [0.  2.5]
    """
    return gaussian_kl_between(mean, log_variance, jnp.zeros_like(mean), jnp.zeros_like(log_variance))


def gaussian_kl_between(
    mean: jax.Array, log_variance: jax.Array, other_mean: jax.Array, other_log_variance: jax.Array
) -> jax.Array:
    """KL(N(μ₁, σ₁²) ‖ N(μ₂, σ₂²)) = ½ Σ [(μ₁ − μ₂)² / σ₂² + σ₁²/σ₂² − 1 − log σ₁²/σ₂²], for independent entries.

    Args:
      mean: μ₁, [batch, ...], any float type; computed in float32.
      log_variance: log σ₁², same shape.
      other_mean: μ₂, same shape.
      other_log_variance: log σ₂², same shape.
    Returns: [batch] float32, nats.
    Raises: InputError if the shapes differ.

    >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> print(gaussian_kl_between(zero, zero, 3 * one, zero))  # 3² / 2
    [4.5]
    """
    arrays = mean, log_variance, other_mean, other_log_variance
    shapes = [x.shape for x in arrays]
    if mean.ndim < 1 or len(set(shapes)) > 1:
        raise InputError(f"Means and log variances must have one shape [batch, ...]; got {shapes}.")
    mean, log_variance, other_mean, other_log_variance = (x.astype(jnp.float32) for x in arrays)
    log_ratio = log_variance - other_log_variance
    # expm1, because near r = 0 the sum is about r²/2, and subtracting 1 from e^r would lose it.
    entries = (mean - other_mean) ** 2 * jnp.exp(-other_log_variance) + jnp.expm1(log_ratio) - log_ratio
    return 0.5 * entries.sum(axis=tuple(range(1, entries.ndim)))
