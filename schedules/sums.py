"""Sums of a schedule: Σα and Σα², the two quantities in the convergence theorem of SGD.

`partial_sums` adds up the rates of a run. `summability` estimates whether the infinite sums converge; this can only be
an estimate, because a schedule is known by its values alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from ..errors import InputError

BLOCKS = np.arange(22, 30)
"""k of the dyadic blocks [2^k, 2^(k+1)) that are sampled: up to step 2^30, half of the range of int32."""
SAMPLES_PER_BLOCK = 4096
DECREASE = 0.08
"""Block sums that fall by less than a factor of 2^0.08 per block count as constant; see `summability`."""


def partial_sums(schedule: optax.Schedule, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Running sums (Σ_{s≤t} α_s, Σ_{s≤t} α_s²) for t = 0, …, num_steps − 1.

    Args:
      schedule: α, any schedule. Its float32 rates are squared and added in float64.
      num_steps: the number of steps, at least 1.
    Returns: two arrays [num_steps], float64.
    Raises: InputError if `num_steps` < 1, or if a rate is not finite.

    >>> from etude.schedules import constant
    >>> sums, squares = partial_sums(constant(0.5), 4)
    >>> print(sums, squares)
    [0.5 1.  1.5 2. ] [0.25 0.5  0.75 1.  ]
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; it must be at least 1.")
    rates = _rates(schedule, np.arange(num_steps))
    return np.cumsum(rates), np.cumsum(rates**2)


class Summability(NamedTuple):
    """Whether Σα_t and Σα_t² converge."""

    summable: bool
    """Whether Σα_t converges."""
    square_summable: bool
    """Whether Σα_t² converges."""

    @property
    def robbins_monro(self) -> bool:
        """Whether Σα_t = ∞ and Σα_t² < ∞: the steps can reach any point, and their noise dies out."""
        return not self.summable and self.square_summable


def summability(schedule: optax.Schedule) -> Summability:
    """Estimates whether Σα_t and Σα_t² converge, from the rates at 32768 steps between 2^22 and 2^30.

    As in Cauchy's condensation test, a series converges if its sums S_k over the blocks [2^k, 2^(k+1)) do. S_k is
    estimated as 2^k times the mean rate over one random step in each of 4096 equal parts of the block. The random steps
    keep a cyclic schedule from being sampled always in the same phase. A line is fitted to log2 S_k over the last eight
    blocks. For α_t = t^−p its slope is 1 − p: below 0 the series converges; at 0, as for 1/t, it diverges. The series
    is taken to converge if the slope is below −0.08, or if all rates in the last block are 0.

    Limits: no finite number of values decides a limit, and nothing after step 2^30 is seen. Powers slightly past the
    border are wrongly taken to diverge: Σα_t for 1 < p < 1.08, and Σα_t² for 0.5 < p < 0.54. Logarithmic factors are
    not resolved: 1/(t·log t) and 1/(t·log² t) still come out right, finer ones do not. Lengths and t0 should be below
    10^7 steps, cycles should grow by a factor of at most 10, and exponential decay should be faster than 10^−8 a step.

    Args:
      schedule: α, any schedule with concrete parameters. Its rates must be at least 0.
    Returns: the two decisions, and from them `robbins_monro`.
    Raises: InputError if a rate is negative or not finite.
    Source: Robbins & Monro 1951; Bottou, Curtis & Nocedal 2018, equation 4.19.

    >>> from etude.schedules import constant, inverse_time
    >>> summability(inverse_time(0.1, 100)).robbins_monro
    True
    >>> summability(constant(0.1)).robbins_monro  # its noise never dies out
    False
    """
    sizes = 2**BLOCKS
    within = np.random.default_rng(0).random((len(BLOCKS), SAMPLES_PER_BLOCK))
    parts = (np.arange(SAMPLES_PER_BLOCK) + within) / SAMPLES_PER_BLOCK
    rates = _rates(schedule, (sizes[:, None] * (1 + parts)).astype(np.int64))
    if (rates < 0).any():
        raise InputError(f"The schedule has a rate of {rates.min()}; all rates must be at least 0.")
    return Summability(*(_converges(sizes * np.mean(rates**power, axis=1)) for power in (1, 2)))


def _converges(block_sums: np.ndarray) -> bool:
    if block_sums[-1] == 0:
        return True
    logarithms = np.log2(np.maximum(block_sums, np.finfo(np.float64).tiny))
    return bool(np.polyfit(BLOCKS, logarithms, 1)[0] < -DECREASE)


def _rates(schedule: optax.Schedule, steps: np.ndarray) -> np.ndarray:
    """The rates at these steps in float64, of the same shape. A schedule that returns one number is constant."""
    rates = np.broadcast_to(np.asarray(schedule(jnp.asarray(steps, jnp.int32)), np.float64), steps.shape)
    if not np.isfinite(rates).all():
        raise InputError(f"The schedule has a rate of {rates[~np.isfinite(rates)][0]}; all rates must be finite.")
    return rates
