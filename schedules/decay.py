"""Schedules of a training run. Lengths are in steps and concrete; rates may be traced."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def constant(value: float | jax.Array) -> optax.Schedule:
    """α_t = α.

    Args:
      value: α, may be traced.
    """
    return lambda step: jnp.full(jnp.shape(step), value, jnp.float32)


def warmup_cosine(
    peak_value: float | jax.Array, warmup_steps: int, total_steps: int, end_value: float | jax.Array = 0.0
) -> optax.Schedule:
    """Linear from 0 to α in w steps, then end + (α − end)·(1 + cos π(t − w)/(T − w))/2 until T, then end.

    Args:
      peak_value: α, may be traced; the rate at step w.
      warmup_steps: w ≥ 0, in steps.
      total_steps: T > w, in steps.
      end_value: the rate from step T on, may be traced.
    Returns: step (int or array of any shape) -> rate, same shape, float32.
    Raises: ValueError if the steps are out of range.
    Source: Loshchilov & Hutter 2017 (SGDR), equation 5, one period; warm-up of Goyal et al. 2017.
    """
    if warmup_steps < 0 or total_steps <= warmup_steps:
        raise ValueError(f"warmup_steps is {warmup_steps}, total_steps {total_steps}; wanted: 0 <= warm-up < total.")

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        rising = peak_value * step / max(warmup_steps, 1)
        done = jnp.clip((step - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
        # Not optax's: that wants a concrete peak for its ratio to the end value.
        falling = end_value + (peak_value - end_value) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        return jnp.where(step < warmup_steps, rising, falling).astype(jnp.float32)

    return schedule
