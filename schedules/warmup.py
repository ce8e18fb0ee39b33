"""Warm-up: the rate grows linearly to the start of another schedule, which then runs delayed.

It does not begin at 0: a step at rate 0 changes nothing, and optimizers that measure how far they came (Prodigy,
D-Adaptation), or that keep their first rate (Rprop), would never move.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from ._check import NON_NEGATIVE, POSITIVE, WAIT, Scalar, require, require_order
from ._exact import steps
from .decay import cosine_decay


def warmup(schedule: optax.Schedule, warmup_steps: Scalar) -> optax.Schedule:
    """Linear warm-up before any schedule s: α_t = s_0·(t + 1)/w for t < w, then s_(t − w).

    Args:
      schedule: s.
      warmup_steps: w ≥ 0, in steps; 0 for no warm-up. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete `warmup_steps` is negative.
    Source: Goyal et al. 2017, section 2.2, "gradual warmup", here from s_0/w.

    >>> from etude.schedules import linear_decay
    >>> print(warmup(linear_decay(1.0, 100), warmup_steps=4)(jnp.array([0, 1, 3, 4, 54])))
    [0.25 0.5  1.   1.   0.5 ]
    """
    require(WAIT, warmup_steps=warmup_steps)

    def warmed(step):
        t, w = steps(step), steps(warmup_steps)
        rising = schedule(0) * ((t + 1) / jnp.maximum(w, 1))
        return jnp.where(t < w, rising, schedule(jnp.maximum(t - w, 0))).astype(jnp.float32)

    return warmed


def warmup_cosine(
    peak_value: Scalar, warmup_steps: Scalar, total_steps: Scalar, end_value: Scalar = 0.0
) -> optax.Schedule:
    """Linear warm-up, then cosine decay: from α/w to α in w steps, then to end at step T, then constant.

    After the warm-up α_t = end + (α − end)·(1 + cos π(t − w)/(T − w))/2.

    Args:
      peak_value: α > 0, the rate at step w. May be traced.
      warmup_steps: w ≥ 0, in steps. May be traced.
      total_steps: T > w, in steps, warm-up included. May be traced.
      end_value: the rate from step T on, in [0, α]. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: Loshchilov & Hutter 2017 (SGDR), equation 5, one period; warm-up of Goyal et al. 2017.

    >>> schedule = warmup_cosine(1.0, warmup_steps=10, total_steps=110)
    >>> print(schedule(jnp.array([0, 4, 10, 60, 110])).round(3))
    [0.1 0.5 1.  0.5 0. ]
    """
    require(POSITIVE, peak_value=peak_value)
    require(WAIT, warmup_steps=warmup_steps)
    require(NON_NEGATIVE, end_value=end_value)
    require_order(strict=True, warmup_steps=warmup_steps, total_steps=total_steps)
    require_order(strict=False, end_value=end_value, peak_value=peak_value)
    return warmup(cosine_decay(peak_value, total_steps - warmup_steps, end_value), warmup_steps)
