"""Schedules that never grow: constant, in stairs, by a power, along a line or a cosine, or as 1/t and 1/√t.

Each function is the closed form in its docstring. optax has some of them, but it branches in Python on lengths and
factors (`if transition_steps <= 0`, `if decay_rate == 0`). A traced value cannot be branched on, so those schedules
cannot be used here. The tests compare ours with optax's for concrete parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ..errors import InputError
from ._check import FACTOR, LENGTH, NON_NEGATIVE, POSITIVE, Scalar, is_traced, require, require_order
from ._exact import blend, half_cosine, log, periods, remaining, steps


def constant(value: Scalar) -> optax.Schedule:
    """Constant rate: α_t = α.

    Args:
      value: α ≥ 0. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete `value` is negative.

    >>> print(constant(0.5)(jnp.arange(3)))
    [0.5 0.5 0.5]
    """
    require(NON_NEGATIVE, value=value)
    return lambda step: jnp.full(jnp.shape(step), value, jnp.float32)


def step_decay(init_value: Scalar, decay_rate: Scalar, decay_steps: Scalar) -> optax.Schedule:
    """Stairs of equal length: α_t = α·γ^⌊t/k⌋ falls by the factor γ every k steps.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      decay_steps: k > 0, in steps. To decay every n epochs, multiply n by the steps of an epoch. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: the lecture's "every k epochs".

    >>> print(step_decay(1.0, 0.5, decay_steps=10)(jnp.array([0, 9, 10, 20])))
    [1.   1.   0.5  0.25]
    """
    _require_powers(init_value, decay_rate, decay_steps)
    exponent = log(decay_rate)
    return lambda step: (init_value * jnp.exp(periods(step, decay_steps)[0] * exponent)).astype(jnp.float32)


def milestone_decay(init_value: Scalar, decay_rate: Scalar, milestones: Sequence[float] | jax.Array) -> optax.Schedule:
    """Stairs at given steps: α_t = α·γ^n, where n is the number of milestones ≤ t.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      milestones: [milestone], ascending, each > 0, in steps. The rate at a milestone is the lower one. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range, or if `milestones` is not one ascending row.
    Source: He et al. 2015, section 4.2 (γ = 0.1 at 32k and 48k of 64k iterations).

    >>> print(milestone_decay(1.0, 0.5, [30, 60])(jnp.array([29, 30, 60])))
    [1.   0.5  0.25]
    """
    require(POSITIVE, init_value=init_value)
    require(FACTOR, decay_rate=decay_rate)
    traced = any(is_traced(value) for value in jax.tree.leaves(milestones))
    # Concrete milestones stay in NumPy: inside jit, jnp would turn them into traced arrays.
    row = jnp.asarray(milestones) if traced else np.asarray(milestones)
    if row.ndim != 1:
        raise InputError(f"milestones have shape {row.shape}; they must be one row of steps.")
    if isinstance(row, np.ndarray) and not (np.diff(row, prepend=0) > 0).all():
        raise InputError(f"milestones are {milestones}; they must be ascending steps, each greater than 0.")
    bounds = steps(row)
    exponent = log(decay_rate)

    def schedule(step):
        passed = jnp.searchsorted(bounds, steps(step), side="right")
        return (init_value * jnp.exp(passed * exponent)).astype(jnp.float32)

    return schedule


def exponential_decay(
    init_value: Scalar, decay_rate: Scalar, decay_steps: Scalar, *, staircase: bool = False
) -> optax.Schedule:
    """Exponential decay: α_t = α·γ^(t/k) falls by the factor γ in k steps, a little each step.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      decay_steps: k > 0, in steps. May be traced.
      staircase: whether t/k is rounded down, as in `step_decay`. If k is the number of steps of an epoch, this is the
        lecture's "per epoch".
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: the lecture's exponential schedule.

    >>> print(exponential_decay(1.0, 0.25, decay_steps=10)(jnp.array([0, 5, 10])))
    [1.   0.5  0.25]
    """
    if staircase:
        return step_decay(init_value, decay_rate, decay_steps)
    _require_powers(init_value, decay_rate, decay_steps)
    exponent = log(decay_rate) / decay_steps
    return lambda step: (init_value * jnp.exp(steps(step) * exponent)).astype(jnp.float32)


def _require_powers(init_value: Scalar, decay_rate: Scalar, decay_steps: Scalar) -> None:
    require(POSITIVE, init_value=init_value)
    require(FACTOR, decay_rate=decay_rate)
    require(LENGTH, decay_steps=decay_steps)


def linear_decay(init_value: Scalar, total_steps: Scalar, end_value: Scalar = 0.0) -> optax.Schedule:
    """Linear decay: α_t = end + (α − end)·(T − t)/T until step T, then end.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      total_steps: T > 0, in steps. May be traced.
      end_value: the rate from step T on, in [0, α]. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: the lecture's linear schedule.

    >>> print(linear_decay(1.0, total_steps=100)(jnp.array([0, 25, 100, 200])))
    [1.   0.75 0.   0.  ]
    """
    _require_fall(init_value, total_steps, end_value)
    return lambda step: blend(init_value, end_value, remaining(step, total_steps))


def cosine_decay(init_value: Scalar, total_steps: Scalar, end_value: Scalar = 0.0) -> optax.Schedule:
    """Cosine decay: α_t = end + (α − end)·(1 + cos πt/T)/2 until step T, then end.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      total_steps: T > 0, in steps. May be traced.
      end_value: the rate from step T on, in [0, α]. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete parameter is out of range.
    Source: Loshchilov & Hutter 2017 (SGDR), equation 5, one period.

    >>> print(cosine_decay(1.0, total_steps=100)(jnp.array([0, 50, 100, 200])).round(3))
    [1.  0.5 0.  0. ]
    """
    _require_fall(init_value, total_steps, end_value)
    return lambda step: blend(init_value, end_value, half_cosine(remaining(step, total_steps)))


def inverse_time(init_value: Scalar, shift: Scalar) -> optax.Schedule:
    """Decay as 1/t: α_t = α·t0/(t + t0), so that Σα_t diverges and Σα_t² converges.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      shift: t0 > 0, in steps: the rate has halved at t = t0. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete `init_value` or `shift` is not positive.
    Source: Robbins & Monro 1951, condition (6); the lecture's "diminishing" schedule.

    >>> print(inverse_time(1.0, shift=100)(jnp.array([0, 100, 300])))
    [1.   0.5  0.25]
    """
    require(POSITIVE, init_value=init_value, shift=shift)
    return lambda step: (init_value * _inverse(step, shift)).astype(jnp.float32)


def inverse_sqrt(init_value: Scalar, shift: Scalar) -> optax.Schedule:
    """Decay as 1/√t: α_t = α·√(t0/(t + t0)), so that neither Σα_t nor Σα_t² converges.

    This is not the schedule of Vaswani et al. 2017, which is √(t0/t) after a linear warm-up of t0 steps.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      shift: t0 > 0, in steps: the rate has halved at t = 3·t0. May be traced.
    Returns: schedule from steps (an int or an array of any shape) to rates of the same shape, float32.
    Raises: InputError if a concrete `init_value` or `shift` is not positive.
    Source: Zinkevich 2003, theorem 1 (α_t ∝ 1/√t), shifted so that the rate at step 0 is finite.

    >>> print(inverse_sqrt(1.0, shift=100)(jnp.array([0, 300])))
    [1.  0.5]
    """
    require(POSITIVE, init_value=init_value, shift=shift)
    return lambda step: (init_value * jnp.sqrt(_inverse(step, shift))).astype(jnp.float32)


def _inverse(step: ArrayLike, shift: Scalar) -> jax.Array:
    """t0/(t + t0), computed in float32 because an integer sum could overflow."""
    return jnp.asarray(shift, jnp.float32) / (jnp.asarray(step, jnp.float32) + shift)


def _require_fall(init_value: Scalar, total_steps: Scalar, end_value: Scalar) -> None:
    require(POSITIVE, init_value=init_value)
    require(LENGTH, total_steps=total_steps)
    require(NON_NEGATIVE, end_value=end_value)
    require_order(strict=False, end_value=end_value, init_value=init_value)
