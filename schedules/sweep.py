"""The schedule of the learning-rate range test, the only one that grows all the way."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from ._check import POSITIVE, Scalar, Valid, require, require_order
from ._exact import log, steps

COUNT = Valid("at least 2 and less than 2^30", lambda value: 2 <= value < 2**30)


def exponential_sweep(min_value: Scalar, max_value: Scalar, num_steps: Scalar) -> optax.Schedule:
    """Exponential growth from α_min at step 0 to α_max at the last step.

    α_t = α_min / γ^t with γ = (α_min / α_max)^(1 / (num_steps − 1)).

    Args:
      min_value: α_min > 0. May be traced.
      max_value: α_max > α_min. May be traced.
      num_steps: the number of rates, at least 2. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32. It is constant
      after the last step.
    Raises: InputError if a concrete value is not positive, the range is reversed, or a concrete `num_steps` is below 2.
    Source: Smith 2017, section 3.3; the lecture's single-pass procedure.

    >>> print(exponential_sweep(0.01, 1.0, num_steps=3)(jnp.arange(4)).round(3))
    [0.01 0.1  1.   1.  ]
    """
    require(POSITIVE, min_value=min_value, max_value=max_value)
    require(COUNT, num_steps=num_steps)
    require_order(strict=True, min_value=min_value, max_value=max_value)
    log_growth = log(max_value / min_value) / (num_steps - 1)

    def schedule(step):
        passed = jnp.clip(steps(step), 0, num_steps - 1)
        return (min_value * jnp.exp(log_growth * passed)).astype(jnp.float32)

    return schedule
