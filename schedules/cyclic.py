"""Schedules that fall and rise again: warm restarts, triangles, and the single cycle of super-convergence.

Restarts happen at exactly their step up to step 2^24, beyond which float32 cannot tell steps apart. With integer steps
and periods, and cycles of equal length, they are exact up to step 2^31.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ._check import LENGTH, NON_NEGATIVE, POSITIVE, Scalar, Valid, require, require_order
from ._exact import blend, half_cosine, periods, remaining, steps

WHOLE = Valid(
    "a whole number of at least 1 and less than 2^30", lambda value: 1 <= value < 2**30 and value == round(value)
)
DIVISOR = Valid("at least 1 and finite", lambda value: 1 <= value < math.inf)
MAX_CYCLES = 31
"""Number of cycles that reach step 2^31, the end of int32, if each is at least twice as long as the one before."""


def cosine_restarts(
    peak_value: Scalar, first_steps: Scalar, multiplier: Scalar = 1, end_value: Scalar = 0.0
) -> optax.Schedule:
    """Cosine decay with warm restarts: α_t = end + (α − end)·(1 + cos πu/T_i)/2, u steps after the start of cycle i.

    Cycle i lasts T_i = T_0·m^i steps. It starts at step T_0·(1 + m + … + m^(i−1)), at the rate α. The rate just before
    a restart is close to `end_value`, which it never reaches.

    Args:
      peak_value: α > 0, the rate at the start of each cycle. May be traced.
      first_steps: T_0 > 0, the length of the first cycle in steps. May be traced.
      multiplier: m, a whole number ≥ 1: each cycle is m times as long as the one before. May be traced.
      end_value: the rate that each cycle falls towards, in [0, α]. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: Loshchilov & Hutter 2017 (SGDR), equation 5.

    >>> schedule = cosine_restarts(1.0, first_steps=10, multiplier=2)
    >>> print(schedule(jnp.array([0, 5, 10, 20, 30])).round(3))  # cycles start at steps 0, 10, 30
    [1.  0.5 1.  0.5 1. ]
    """
    require(POSITIVE, peak_value=peak_value)
    require(LENGTH, first_steps=first_steps)
    require(WHOLE, multiplier=multiplier)
    require(NON_NEGATIVE, end_value=end_value)
    require_order(strict=False, end_value=end_value, peak_value=peak_value)

    def schedule(step):
        lengths, starts = _geometric(jnp.asarray(multiplier, jnp.float32))  # in units of T_0
        cycle = jnp.searchsorted(first_steps * starts[1:], steps(step).astype(jnp.float32), side="right")
        # Cycles of equal length are too many to list. For them, the steps since the last restart are a remainder.
        since = jnp.where(multiplier == 1, periods(step, first_steps)[1], steps(step) - first_steps * starts[cycle])
        return blend(peak_value, end_value, half_cosine(remaining(since, first_steps * lengths[cycle])))

    return schedule


def _geometric(ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(m^i, 1 + m + … + m^(i−1)) for i = 0, 1, …: exact below 2^24 for a whole m.

    All values are finite, because the powers stop growing at 2^31.
    """
    largest = jnp.floor(31 / jnp.log2(jax.lax.stop_gradient(ratio)))
    factors = jnp.where(jnp.arange(1, MAX_CYCLES) <= largest, ratio, 1.0)
    powers = jnp.concatenate([jnp.ones(1), jnp.cumprod(factors)])
    return powers, jnp.concatenate([jnp.zeros(1), jnp.cumsum(powers[:-1])])


def triangular(min_value: Scalar, max_value: Scalar, half_period: Scalar) -> optax.Schedule:
    """Triangle wave: α_t = min + (max − min)·(1 − |u/h − 1|) with u = t mod 2h, h steps up and h steps down.

    Args:
      min_value: the rate at steps 0, 2h, 4h, …; at least 0. May be traced.
      max_value: the rate at steps h, 3h, …; greater than `min_value`. May be traced.
      half_period: h > 0, in steps; the paper's "stepsize". May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range, or if `min_value` is not below `max_value`.
    Source: Smith 2017, section 3.1.

    >>> print(triangular(0.0, 1.0, half_period=4)(jnp.array([0, 2, 4, 6, 8])))
    [0.  0.5 1.  0.5 0. ]
    """
    _require_triangle(min_value, max_value, half_period)
    return lambda step: blend(max_value, min_value, _triangle(step, half_period)[1])


def triangular2(min_value: Scalar, max_value: Scalar, half_period: Scalar) -> optax.Schedule:
    """Triangle wave of halving height: α_t = min + (max − min)·(1 − |u/h − 1|)/2^i in cycle i, with u = t mod 2h.

    Args:
      min_value: the rate at steps 0, 2h, 4h, …; at least 0. May be traced.
      max_value: the rate at step h; greater than `min_value`. May be traced.
      half_period: h > 0, in steps; the paper's "stepsize". May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range, or if `min_value` is not below `max_value`.
    Source: Smith 2017, section 3.1, "triangular2".

    >>> print(triangular2(0.0, 1.0, half_period=4)(jnp.array([4, 12, 20])))  # the peaks
    [1.   0.5  0.25]
    """
    _require_triangle(min_value, max_value, half_period)

    def schedule(step):
        cycle, height = _triangle(step, half_period)
        return blend(max_value, min_value, height * 0.5 ** cycle.astype(jnp.float32))

    return schedule


def _triangle(step: ArrayLike, half_period: Scalar) -> tuple[jax.Array, jax.Array]:
    """(number of completed cycles, height in [0, 1])."""
    cycle, since = periods(step, 2 * half_period)
    return cycle, jnp.minimum(since, 2 * half_period - since) / steps(half_period)


def _require_triangle(min_value: Scalar, max_value: Scalar, half_period: Scalar) -> None:
    require(NON_NEGATIVE, min_value=min_value)
    require(POSITIVE, max_value=max_value)
    require(LENGTH, half_period=half_period)
    require_order(strict=True, min_value=min_value, max_value=max_value)


def one_cycle(
    peak_value: Scalar,
    warmup_steps: Scalar,
    total_steps: Scalar,
    start_divisor: Scalar = 25.0,
    end_divisor: Scalar = 1e4,
) -> optax.Schedule:
    """Half a cosine up from α/d to α in w steps, then half a cosine down to α/(d·e) at step T, then constant.

    The paper's cycle consists of straight lines. Cosines are what optax, torch and fastai use.

    Args:
      peak_value: α > 0, the rate at step w. May be traced.
      warmup_steps: w > 0, in steps; optax's default is ⌊0.3·T⌋. May be traced.
      total_steps: T > w, in steps. May be traced.
      start_divisor: d ≥ 1; the first rate is α/d. May be traced.
      end_divisor: e ≥ 1; the last rate is the first one divided by e. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: Smith & Topin 2018 (super-convergence), the "1cycle" policy; `optax.cosine_onecycle_schedule`.

    >>> schedule = one_cycle(1.0, warmup_steps=30, total_steps=100, start_divisor=10, end_divisor=2)
    >>> print(schedule(jnp.array([0, 30, 100, 1000])))
    [0.1  1.   0.05 0.05]
    """
    require(POSITIVE, peak_value=peak_value)
    require(LENGTH, warmup_steps=warmup_steps, total_steps=total_steps)
    require(DIVISOR, start_divisor=start_divisor, end_divisor=end_divisor)
    require_order(strict=True, warmup_steps=warmup_steps, total_steps=total_steps)
    start_value = peak_value / start_divisor

    def schedule(step):
        t, w = steps(step), steps(warmup_steps)
        rising = blend(start_value, peak_value, half_cosine(remaining(t, warmup_steps)))
        falling = half_cosine(remaining(t - w, total_steps - warmup_steps))
        return jnp.where(t < w, rising, blend(peak_value, start_value / end_divisor, falling))

    return schedule
