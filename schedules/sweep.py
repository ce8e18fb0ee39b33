"""The schedule of the learning-rate range test: the one that grows."""

from __future__ import annotations

import math

import jax.numpy as jnp
import optax


def exponential_sweep(min_value: float, max_value: float, steps: int) -> optax.Schedule:
    """α_t = α_min / γ^t with γ = (α_min / α_max)^(1 / (steps − 1)): from α_min at step 0 to α_max at the last.

    Args:
      min_value: α_min > 0.
      max_value: α_max > α_min.
      steps: how many rates, at least 2.
    Returns: step (int or array of any shape) -> rate, same shape, float32; constant after the last step.
    Raises: ValueError if the range is not positive or reversed, or `steps` < 2.
    Source: Smith 2017, section 3.3; the lecture's single-pass procedure.
    """
    if not 0 < min_value < max_value < math.inf:
        raise ValueError(f"The swept range is {min_value} to {max_value}; wanted: 0 < lowest < highest.")
    if steps < 2:
        raise ValueError(f"A range test of {steps} steps sweeps nothing; it needs at least 2.")
    log_growth = math.log(max_value / min_value) / (steps - 1)

    def schedule(step):
        step = jnp.clip(jnp.asarray(step, jnp.float32), 0, steps - 1)
        return (min_value * jnp.exp(log_growth * step)).astype(jnp.float32)

    return schedule
