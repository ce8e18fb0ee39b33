"""What a schedule adds up to: Σα and Σα², in which the convergence theorem of SGD speaks.

Over a run they are summed; whether they converge for ever is estimated, since a schedule is only known by its values.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

BLOCKS = np.arange(22, 30)
"""k of the dyadic blocks [2^k, 2^(k+1)) that are looked at: the last ones before steps leave int32 by half."""
SAMPLES_PER_BLOCK = 4096
DECREASE = 0.08
"""Block sums that fall by less than a factor 2^0.08 a block are taken not to fall at all; see `summability`."""


def partial_sums(schedule: optax.Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(Σ_{s≤t} α_s, Σ_{s≤t} α_s²) for t = 0, …, steps − 1.

    Args:
      schedule: α, any; its float32 rates are squared and added in float64.
      steps: how many, at least 1.
    Returns: two arrays [steps], float64.
    Raises: ValueError if `steps` < 1 or a rate is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; a sum needs at least 1.")
    rates = _rates(schedule, np.arange(steps))
    return np.cumsum(rates), np.cumsum(rates**2)


class Summability(NamedTuple):
    """Whether Σα_t and Σα_t² converge."""

    summable: bool
    square_summable: bool

    @property
    def robbins_monro(self) -> bool:
        """Σα_t = ∞ and Σα_t² < ∞: the rates reach anywhere, and their noise dies out."""
        return not self.summable and self.square_summable


def summability(schedule: optax.Schedule) -> Summability:
    """Decides whether Σα_t and Σα_t² converge, from the rates at 32768 steps between 2^22 and 2^30.

    As in Cauchy's condensation, a series converges if its sums S_k over the blocks [2^k, 2^(k+1)) do. S_k is estimated
    as 2^k times the mean over one random step in each of 4096 equal parts of the block, so that a cyclic schedule is
    not met in the same phase each time. A line fitted to log2 S_k over the last eight blocks has a slope that for
    α_t = t^−p is 1 − p: below 0 the series converges, at 0, as for 1/t, it does not. The series is taken to converge
    if the slope is below −0.08, or if the last block holds nothing but zeros.

    Limits. No finite number of values decides a limit, and nothing after step 2^30 is seen. Wrongly taken to diverge
    are powers a little past the border: Σα_t for 1 < p < 1.08, Σα_t² for 0.5 < p < 0.54. Logarithmic factors are not
    resolved: 1/(t·log t) and 1/(t·log² t) still come out right, finer ones do not. Lengths and t0 should be below
    10^7 steps, cycles grow by a factor of at most 10, and exponential decay be faster than 10^−8 a step.

    Args:
      schedule: α, any, of parameters that are concrete; its rates must be at least 0.
    Returns: two decisions, and `robbins_monro`, that neither rates vanish too fast nor noise stays.
    Raises: ValueError if a rate is negative or not finite.
    Source: Robbins & Monro 1951; Bottou, Curtis & Nocedal 2018, equation 4.19.
    """
    sizes = 2**BLOCKS
    within = np.random.default_rng(0).random((len(BLOCKS), SAMPLES_PER_BLOCK))
    parts = (np.arange(SAMPLES_PER_BLOCK) + within) / SAMPLES_PER_BLOCK
    rates = _rates(schedule, (sizes[:, None] * (1 + parts)).astype(np.int64))
    if (rates < 0).any():
        raise ValueError(f"The schedule has a rate of {rates.min()}; rates must be at least 0.")
    return Summability(*(_converges(sizes * np.mean(rates**power, axis=1)) for power in (1, 2)))


def _converges(block_sums: np.ndarray) -> bool:
    if block_sums[-1] == 0:
        return True
    logarithms = np.log2(np.maximum(block_sums, np.finfo(np.float64).tiny))
    return bool(np.polyfit(BLOCKS, logarithms, 1)[0] < -DECREASE)


def _rates(schedule: optax.Schedule, steps: np.ndarray) -> np.ndarray:
    """The rates at these steps, in float64, same shape; a schedule that answers with one number is constant."""
    rates = np.broadcast_to(np.asarray(schedule(jnp.asarray(steps, jnp.int32)), np.float64), steps.shape)
    if not np.isfinite(rates).all():
        raise ValueError(f"The schedule has a rate of {rates[~np.isfinite(rates)][0]}; rates must be finite.")
    return rates
