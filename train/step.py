"""One training step as a pure function: (state, batch) -> (state, metrics).

It knows nothing of devices: a `Layout` compiles it for one or for many. Losses and metrics are `Mean`s. Parts of a
batch and replicas add their totals and weights, gradients are those of the totals, and everything is divided once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..errors import InputError
from ..tasks import Batch, Mean, Task
from .optimizers import Hyper, MakeOptimizer
from .plateau import at_rate, rate_factor
from .state import State

Metrics = Mapping[str, Mean]
Step = Callable[[State, Batch], tuple[State, Metrics]]


def make_step(
    task: Task,
    make_optimizer: MakeOptimizer,
    make_schedule: Callable[[Hyper], optax.Schedule],
    *,
    augment: Callable[[jax.Array, Batch, Hyper], Batch] | None = None,
    accumulate: int = 1,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    gather: Callable[[Any], Any] = lambda tree: tree,
) -> Step:
    """Composes a training step.

    Args:
      task: the problem.
      make_optimizer: (learning rate, hyper) -> optax transformation. Its update also gets `value` (the loss of the
        batch), `grad`, and `value_fn` (params -> loss of the whole batch, even where it is cut into parts).
      make_schedule: hyper -> (step -> learning rate).
      augment: (key, batch, hyper) -> batch, or None. It draws per example, so that neither batches nor devices matter.
      accumulate: number of parts the batch is cut into, to save memory. The update is that of the whole batch, except
        that BatchNorm normalizes each part by itself.
      ema_decay: decay of the moving average in `state.ema`, in (0, 1), reached slowly:
        min(decay, (1 + step) / (10 + step)). None if the state has no average.
      axis_name: the pmap axis over which sums are added; None under other layouts.
      gather: the layout's `gather`, which makes sharded parameters whole. Without it, XLA's partitioner cuts layers
        along with their kernels, and gives wrong gradients of some.
    Returns: (state, batch) -> (state, metrics): {name: `Mean`}, among them `loss`, `learning_rate` (the rate of this
      step, with the factor of a plateau) and `gradient_norm` (before any clipping).
    Raises: InputError if `accumulate` < 1 or `ema_decay` is outside (0, 1).
    """
    if accumulate < 1:
        raise InputError(f"accumulate is {accumulate}; it must be at least 1.")
    check_ema_decay(ema_decay)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if augment is not None:
            batch = augment(augment_key, batch, state.hyper)
        if axis_name is not None:
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))

        def loss_of(params, model_state, batch, key):
            return task.loss(gather(params), gather(model_state), batch, key, True, state.hyper)

        sums, model_state = sum_gradients(loss_of, state.params, state.model_state, batch, model_key, accumulate)
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
        gradients, loss, metrics = sums
        gradients = divided(gradients, loss.weight)

        learning_rate = jnp.asarray(make_schedule(state.hyper)(state.step), jnp.float32)
        optimizer = optax.with_extra_args_support(make_optimizer(learning_rate, state.hyper))

        def value_fn(params):
            return loss_of(params, state.model_state, batch, model_key)[0].value

        # Optimizers take the extra arguments they know. Differentiating a sum over pmap's axis would count it once per
        # replica, so there is no `value_fn` there.
        extra = {"value": loss.value, "grad": gradients, "value_fn": None if axis_name else value_fn}
        before = at_rate(state.opt_state, learning_rate)
        updates, opt_state = optimizer.update(gradients, before, state.params, **extra)
        params = optax.apply_updates(state.params, updates)

        ema = moving_average(state, params, model_state, ema_decay)
        own = {"learning_rate": learning_rate * rate_factor(opt_state), "gradient_norm": optax.tree.norm(gradients)}
        metrics = {"loss": loss, **metrics, **{name: Mean.once(value) for name, value in own.items()}}
        state = replace(
            state, step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=ema
        )
        return state, metrics

    return step


def sum_gradients(loss_of: Callable, params: Any, model_state: Any, batch: Batch, key: jax.Array, parts: int):
    """The gradient of a batch's total loss, in `parts` passes.

    Args:
      loss_of: (params, model_state, batch, key) -> (loss, `Aux`).
      params: where to differentiate.
      model_state: passed from one part to the next.
      batch: cut by `cut`.
      key: split over the parts.
      parts: a divisor of the batch size.
    Returns: ((gradient of the loss's total, loss, metrics), model state).
    """

    def one(model_state, batch, key):
        def total(params):
            loss, aux = loss_of(params, model_state, batch, key)
            return loss.total, (loss, aux)

        (_, (loss, aux)), gradients = jax.value_and_grad(total, has_aux=True)(params)
        return (gradients, loss, dict(aux.metrics)), aux.model_state

    if parts == 1:
        return one(model_state, batch, key)

    def body(carry, part):
        sums, model_state = carry
        own, model_state = one(model_state, *part)
        return (jax.tree.map(jnp.add, sums, own), model_state), None

    parted, keys = cut(batch, parts), jax.random.split(key, parts)
    shapes = jax.eval_shape(one, model_state, jax.tree.map(lambda x: x[0], parted), key)[0]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, (zeros, model_state), (parted, keys))[0]


def divided(gradients: Any, weight: jax.Array) -> Any:
    """The gradient of a mean from that of its total; 0 where nothing has a weight, so that padding changes nothing."""
    divisor = jnp.where(weight == 0, 1, weight)
    return jax.tree.map(lambda gradient: (gradient / divisor).astype(gradient.dtype), gradients)


def cut(batch: Batch, parts: int) -> Batch:
    """[batch, …] -> [parts, batch / parts, …] of every array, `parts` being a divisor of the batch.

    Part j takes the rows j, j + parts, …, so that each part of a batch spread over devices still uses all devices.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), dict(batch))


def check_ema_decay(ema_decay: float | None) -> None:
    """Raises InputError unless it is in (0, 1), or None for no average."""
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise InputError(f"ema_decay is {ema_decay}; it must be in (0, 1), or None for no average.")


def moving_average(state: State, params: Any, model_state: Any, ema_decay: float | None) -> Any:
    """The state's average after a step to these variables, with decay min(ema_decay, (1 + step) / (10 + step))."""
    if ema_decay is None:
        return state.ema
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    return optax.incremental_update({"params": params, "model_state": model_state}, state.ema, 1 - decay)
