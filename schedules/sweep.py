"""The schedule of the learning-rate range test: the one that grows."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from ._check import POSITIVE, Scalar, Valid, require, require_order
from ._exact import log
from ._exact import steps as as_steps

SWEPT = Valid("at least 2, or nothing is swept, and less than 2^30", lambda value: 2 <= value < 2**30)


def exponential_sweep(min_value: Scalar, max_value: Scalar, steps: Scalar) -> optax.Schedule:
    """α_t = α_min / γ^t with γ = (α_min / α_max)^(1 / (steps − 1)): from α_min at step 0 to α_max at the last.

    Args:
      min_value: α_min > 0. May be traced.
      max_value: α_max > α_min. May be traced.
      steps: how many rates, at least 2. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32; constant after the last step.
    Raises: ValueError if a concrete range is not positive or reversed, or concrete `steps` are fewer than 2.
    Source: Smith 2017, section 3.3; the lecture's single-pass procedure.
    """
    require(POSITIVE, min_value=min_value, max_value=max_value)
    require(SWEPT, steps=steps)
    require_order(strict=True, min_value=min_value, max_value=max_value)
    log_growth = log(max_value / min_value) / (steps - 1)

    def schedule(step):
        passed = jnp.clip(as_steps(step), 0, steps - 1)
        return (min_value * jnp.exp(log_growth * passed)).astype(jnp.float32)

    return schedule
