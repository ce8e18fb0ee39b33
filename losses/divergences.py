"""How far one distribution is from another, in nats, one number per example: Kullback-Leibler, in closed form.

KL(q ‖ p) is what it costs on average to describe draws of q with a code made for p: at least 0, and not symmetric.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − 1 − log σ²), entries being independent.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², of the same shape.
    Returns: [batch] float32, nats.
    Raises: ValueError if the shapes differ.
    Source: Kingma & Welling 2013, "Auto-encoding variational Bayes", appendix B.
    """
    return gaussian_kl_between(mean, log_variance, jnp.zeros_like(mean), jnp.zeros_like(log_variance))


def gaussian_kl_between(
    mean: jax.Array, log_variance: jax.Array, other_mean: jax.Array, other_log_variance: jax.Array
) -> jax.Array:
    """KL(N(μ₁, σ₁²) ‖ N(μ₂, σ₂²)) = ½ Σ [(μ₁ − μ₂)² / σ₂² + σ₁²/σ₂² − 1 − log σ₁²/σ₂²], entries being independent.

    Args:
      mean, log_variance: μ₁ and log σ₁², [batch, ...], any float type; computed in float32.
      other_mean, other_log_variance: μ₂ and log σ₂², of the same shape.
    Returns: [batch] float32, nats.
    Raises: ValueError if the shapes differ.
    """
    arrays = mean, log_variance, other_mean, other_log_variance
    shapes = [x.shape for x in arrays]
    if mean.ndim < 1 or len(set(shapes)) > 1:
        raise ValueError(f"Means and log variances must be of one shape [batch, ...]; they are {shapes}.")
    mean, log_variance, other_mean, other_log_variance = (x.astype(jnp.float32) for x in arrays)
    log_ratio = log_variance - other_log_variance
    # e^r − 1 in one go: near r = 0, where the sum is about r²/2, the 1 would drown it.
    entries = (mean - other_mean) ** 2 * jnp.exp(-other_log_variance) + jnp.expm1(log_ratio) - log_ratio
    return 0.5 * entries.sum(axis=tuple(range(1, entries.ndim)))
