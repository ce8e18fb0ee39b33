"""Learning rates that are part of an optimizer's state: reduced on plateaus, or kept there by optax.

Every other schedule is a function of the step, which `make_step` evaluates. These two are not, so the step asks here
which rate an update really had, and tells an optimizer that keeps its rate what it is now.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ..errors import InputError
from .optimizers import Scalar

IMPROVEMENT = 1e-4
"""A fall of the loss counts from this share on of all that it has fallen, so that adding a constant changes nothing."""


class PlateauState(NamedTuple):
    """State of `reduce_on_plateau`, all scalars."""

    scale: jax.Array
    """Product of all factors so far."""
    first: jax.Array
    """The first value; infinite before there is one."""
    best: jax.Array
    """The lowest value that counted as an improvement."""
    worse: jax.Array
    """Number of values since then, or since the last fall of the rate."""
    cooling: jax.Array
    """Number of values that are still not counted."""
    averaged: jax.Array
    """Number of steps in the present value."""
    mean: jax.Array
    """Their mean."""


def reduce_on_plateau(
    optimizer: optax.GradientTransformation,
    *,
    factor: float = 0.1,
    patience: int = 3,
    accumulation_size: int = 1,
    cooldown: int = 0,
    min_scale: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its rate is multiplied by `factor` whenever the loss no longer improves.

    This schedule depends on more than the step, so its state is part of the optimizer's. It watches the training loss,
    which `make_step` passes to every optimizer, averaged over `accumulation_size` steps. An improvement is a fall below
    the best value by more than 0.01 % of the whole fall so far, from the first value to the best. (optax and PyTorch
    ask for 0.01 % of the value itself: then a constant that is added to the loss decides what improves.)

    Args:
      optimizer: the optimizer to slow down.
      factor: in (0, 1).
      patience: number of values without improvement before the rate falls, at least 1.
      accumulation_size: number of steps averaged into one value. With the steps of an epoch, `patience` counts epochs.
      cooldown: number of values after a fall that are not counted.
      min_scale: in [0, 1), lower limit of the product of all factors.
    Returns: a transformation whose `update` needs `value=`, the loss.
    Raises: InputError for numbers out of range, and from `update` without a value.
    Source: `optax.contrib.reduce_on_plateau`, but for what counts as an improvement; the lecture's "adaptive to
      plateaus".
    """
    if not 0 < factor < 1:
        raise InputError(f"factor is {factor}; it must be greater than 0 and less than 1.")
    for name, value, least in (
        ("patience", patience, 1),
        ("accumulation_size", accumulation_size, 1),
        ("cooldown", cooldown, 0),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}.")
    if not 0 <= min_scale < 1:
        raise InputError(f"min_scale is {min_scale}; it must be at least 0 and less than 1.")

    def init(params) -> PlateauState:
        del params
        none, zero = jnp.float32(jnp.inf), jnp.int32(0)
        return PlateauState(jnp.float32(1), none, none, zero, zero, zero, jnp.float32(0))

    def judged(state: PlateauState) -> PlateauState:
        first = jnp.where(jnp.isfinite(state.first), state.first, state.mean)
        # Before the first value, all is infinite and anything improves.
        improved = state.mean < state.best - IMPROVEMENT * jnp.maximum(first - state.best, 0)
        counted = state.cooling == 0
        worse = jnp.where(improved | ~counted, 0, state.worse + 1)
        tired = worse >= patience
        return PlateauState(
            scale=jnp.where(tired, jnp.maximum(state.scale * factor, min_scale), state.scale),
            first=first,
            best=jnp.where(improved, state.mean, state.best),
            worse=jnp.where(tired, 0, worse),
            cooling=jnp.where(counted, jnp.where(tired, cooldown, 0), state.cooling - 1),
            averaged=jnp.zeros_like(state.averaged),
            mean=jnp.zeros_like(state.mean),
        )

    def update(updates, state: Any, params=None, *, value=None, **extra):
        del params, extra
        if value is None:
            raise InputError("A plateau needs a metric: call update(…, value=loss).")
        count = state.averaged + 1
        summed = state._replace(averaged=count, mean=state.mean + (value - state.mean) / count)
        state = jax.tree.map(lambda new, old: jnp.where(count == accumulation_size, new, old), judged(summed), summed)
        return jax.tree.map(lambda update: (state.scale * update).astype(update.dtype), updates), state

    return optax.chain(optimizer, optax.GradientTransformationExtraArgs(init, update))


def rate_factor(opt_state: Any) -> jax.Array:
    """The factor by which all plateaus within an optimizer's state, ours and optax's, reduce the learning rate."""
    kinds = (PlateauState, optax.contrib.ReduceLROnPlateauState)
    states = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, kinds))
    factors = [jnp.asarray(state.scale, jnp.float32) for state in states if isinstance(state, kinds)]
    return functools.reduce(jnp.multiply, factors, jnp.float32(1))


def at_rate(opt_state: Any, learning_rate: Scalar) -> Any:
    """An optimizer's state with this learning rate wherever `optax.inject_hyperparams` keeps one.

    Such an optimizer takes its rate from its state alone, so that it would stay at the rate of step 0.
    """

    def injected(x):
        return isinstance(getattr(x, "hyperparams", None), dict) and hasattr(x, "inner_state")

    def renewed(x):
        if not injected(x):
            return x
        kept = x.hyperparams
        if "learning_rate" in kept:
            kept = {**kept, "learning_rate": jnp.asarray(learning_rate, jnp.asarray(kept["learning_rate"]).dtype)}
        return x._replace(hyperparams=kept, inner_state=at_rate(x.inner_state, learning_rate))

    return jax.tree.map(renewed, opt_state, is_leaf=injected)
