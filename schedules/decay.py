"""Schedules that never grow: by stairs, by a power, along a line or a cosine, or as 1/t and 1/√t.

Each is the closed form of its docstring. optax has some of them; it branches in Python on lengths and factors
(`if transition_steps <= 0`, `if decay_rate == 0`), which traced ones refuse, so none of its schedules serves here.
The tests hold these equal to them where the parameters are concrete.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ._check import FACTOR, LENGTH, NON_NEGATIVE, POSITIVE, Scalar, is_traced, require, require_order
from ._exact import blend, half_cosine, log, periods, remaining, steps


def constant(value: Scalar) -> optax.Schedule:
    """α_t = α.

    Args:
      value: α ≥ 0, may be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete `value` is negative.
    """
    require(NON_NEGATIVE, value=value)
    return lambda step: jnp.full(jnp.shape(step), value, jnp.float32)


def step_decay(init_value: Scalar, decay_rate: Scalar, decay_steps: Scalar) -> optax.Schedule:
    """α_t = α·γ^⌊t/k⌋: falls by the factor γ every k steps.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      decay_steps: k > 0, in steps; every k epochs is k times the steps of an epoch. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete parameter is out of range.
    Source: the lecture's "every k epochs".
    """
    _require_powers(init_value, decay_rate, decay_steps)
    exponent = log(decay_rate)
    return lambda step: (init_value * jnp.exp(periods(step, decay_steps)[0] * exponent)).astype(jnp.float32)


def milestone_decay(init_value: Scalar, decay_rate: Scalar, milestones: Sequence[float] | jax.Array) -> optax.Schedule:
    """α_t = α·γ^n with n the number of milestones ≤ t: falls by the factor γ at each of them.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      milestones: [milestone], ascending, each > 0, in steps; the rate at a milestone is the lower one. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete parameter is out of range or `milestones` is not one ascending row.
    Source: He et al. 2015, section 4.2 (γ = 0.1 at 32k and 48k of 64k iterations).
    """
    require(POSITIVE, init_value=init_value)
    require(FACTOR, decay_rate=decay_rate)
    traced = any(is_traced(value) for value in jax.tree.leaves(milestones))
    # In numpy where concrete: inside jit, jnp would turn concrete milestones into traced ones.
    row = jnp.asarray(milestones) if traced else np.asarray(milestones)
    if row.ndim != 1:
        raise ValueError(f"milestones has shape {row.shape}; it must be one row of steps.")
    if isinstance(row, np.ndarray) and not (np.diff(row, prepend=0) > 0).all():
        raise ValueError(f"milestones is {milestones}; it must be ascending steps, each greater than 0.")
    bounds = steps(row)
    exponent = log(decay_rate)

    def schedule(step):
        passed = jnp.searchsorted(bounds, steps(step), side="right")
        return (init_value * jnp.exp(passed * exponent)).astype(jnp.float32)

    return schedule


def exponential_decay(
    init_value: Scalar, decay_rate: Scalar, decay_steps: Scalar, *, staircase: bool = False
) -> optax.Schedule:
    """α_t = α·γ^(t/k): falls by the factor γ in k steps, a little each step.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      decay_rate: γ in (0, 1). May be traced.
      decay_steps: k > 0, in steps. May be traced.
      staircase: t/k is rounded down, as by `step_decay`; with k the steps of an epoch, the lecture's "per epoch".
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete parameter is out of range.
    Source: the lecture's exponential schedule.
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
    """α_t = end + (α − end)·(T − t)/T until T, then end.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      total_steps: T > 0, in steps. May be traced.
      end_value: the rate from step T on, in [0, α]. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete parameter is out of range.
    Source: the lecture's linear schedule.
    """
    _require_fall(init_value, total_steps, end_value)
    return lambda step: blend(init_value, end_value, remaining(step, total_steps))


def cosine_decay(init_value: Scalar, total_steps: Scalar, end_value: Scalar = 0.0) -> optax.Schedule:
    """α_t = end + (α − end)·(1 + cos πt/T)/2 until T, then end.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      total_steps: T > 0, in steps. May be traced.
      end_value: the rate from step T on, in [0, α]. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete parameter is out of range.
    Source: Loshchilov & Hutter 2017 (SGDR), equation 5, one period.
    """
    _require_fall(init_value, total_steps, end_value)
    return lambda step: blend(init_value, end_value, half_cosine(remaining(step, total_steps)))


def inverse_time(init_value: Scalar, shift: Scalar) -> optax.Schedule:
    """α_t = α·t0/(t + t0), so that Σα_t diverges and Σα_t² converges.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      shift: t0 > 0, in steps: the rate has halved at t = t0. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete `init_value` or `shift` is not positive.
    Source: Robbins & Monro 1951, condition (6); the lecture's "diminishing" schedule.
    """
    require(POSITIVE, init_value=init_value, shift=shift)
    return lambda step: (init_value * _inverse(step, shift)).astype(jnp.float32)


def inverse_sqrt(init_value: Scalar, shift: Scalar) -> optax.Schedule:
    """α_t = α·√(t0/(t + t0)): neither Σα_t nor Σα_t² converges.

    Not the schedule of Vaswani et al. 2017, which is √(t0/t) after a linear warm-up of t0 steps.

    Args:
      init_value: α > 0, the rate at step 0. May be traced.
      shift: t0 > 0, in steps: the rate has halved at t = 3·t0. May be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if a concrete `init_value` or `shift` is not positive.
    Source: Zinkevich 2003, theorem 1 (α_t ∝ 1/√t), shifted so that step 0 has a rate.
    """
    require(POSITIVE, init_value=init_value, shift=shift)
    return lambda step: (init_value * jnp.sqrt(_inverse(step, shift))).astype(jnp.float32)


def _inverse(step: ArrayLike, shift: Scalar) -> jax.Array:
    """t0/(t + t0), in float32: an integer sum could overflow."""
    return jnp.asarray(shift, jnp.float32) / (jnp.asarray(step, jnp.float32) + shift)


def _require_fall(init_value: Scalar, total_steps: Scalar, end_value: Scalar) -> None:
    require(POSITIVE, init_value=init_value)
    require(LENGTH, total_steps=total_steps)
    require(NON_NEGATIVE, end_value=end_value)
    require_order(strict=False, end_value=end_value, init_value=init_value)
