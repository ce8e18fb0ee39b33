"""One training step as a pure function: (state, batch) -> (state, metrics).

It knows nothing of devices. `parallel` compiles it for one or for many; the only trace of that here is
`axis_name`, which pmap needs to average over its replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .optimizers import Hyper, MakeOptimizer
from .state import State
from .task import Batch, Task

Metrics = dict[str, jax.Array]
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
      make_optimizer: (learning rate, hyper) -> optax transformation; it is given `value` (the batch's mean metric
        `loss`), `grad` and `value_fn` (params -> loss of the batch, as a whole even where it is cut) besides.
      make_schedule: hyper -> (step -> learning rate).
      augment: (key, batch, hyper) -> batch, or None. Draws per example, so that it sees neither batches nor devices.
      accumulate: into how many parts the batch is cut; their gradients are averaged before the update.
        The same update as for the whole batch, up to BatchNorm, whose statistics are those of a part.
      ema_decay: decay of the moving average in `state.ema`, in (0, 1), reached slowly:
        min(decay, (1 + step) / (10 + step)). None when the state has no average.
      axis_name: the pmap axis to average over, None elsewhere.
      gather: the layout's: puts parameters together that lie in parts on several devices. Left to itself, XLA's
        partitioner cuts layers along with their kernels, and gives wrong gradients of some.
    Returns: (state, batch) -> (state, metrics): scalars float32, among them `learning_rate`, the rate of this
      step, and `gradient_norm`, before any clipping.
    Raises: ValueError if `accumulate` < 1 or `ema_decay` is outside (0, 1).
    """
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}; it must be at least 1.")
    check_ema_decay(ema_decay)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if augment is not None:
            batch = augment(augment_key, batch, state.hyper)
        if axis_name is not None:
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))

        def loss(params, model_state, batch, key):
            return task.loss(gather(params), gather(model_state), batch, key, True, state.hyper)

        gradients, model_state, metrics = _mean_gradients(loss, state, batch, model_key, accumulate)
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)

        learning_rate = jnp.asarray(make_schedule(state.hyper)(state.step), jnp.float32)
        optimizer = optax.with_extra_args_support(make_optimizer(learning_rate, state.hyper))

        def value_fn(params):
            return loss(params, state.model_state, batch, model_key)[0]

        # What optax calls extra arguments; an optimizer takes those it knows. Differentiating an average over pmap's
        # axis would count it once per replica, so there is no `value_fn` there.
        extra = {"value": metrics["loss"], "grad": gradients, "value_fn": None if axis_name else value_fn}
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)

        ema = moving_average(state, params, model_state, ema_decay)
        metrics |= {"learning_rate": learning_rate, "gradient_norm": optax.tree.norm(gradients)}
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
        state = replace(
            state, step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=ema
        )
        return state, metrics

    return step


def _mean_gradients(loss: Callable, state: State, batch: Batch, key: jax.Array, parts: int):
    """(gradients, model state, mean metrics) of a batch, in `parts` passes of equal size."""

    def one(model_state, batch, key):
        (_, aux), gradients = jax.value_and_grad(loss, has_aux=True)(state.params, model_state, batch, key)
        return gradients, aux.model_state, jax.tree.map(jnp.mean, dict(aux.metrics))

    if parts == 1:
        return one(state.model_state, batch, key)

    parted = cut(batch, parts)

    def body(carry, part):
        sums, model_state = carry
        gradients, model_state, metrics = one(model_state, part[0], part[1])
        return (jax.tree.map(jnp.add, sums, (gradients, metrics)), model_state), None

    first = jax.tree.map(lambda x: x[0], parted)
    shapes = jax.eval_shape(one, state.model_state, first, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[2]))
    keys = jax.random.split(key, parts)
    (sums, model_state), _ = jax.lax.scan(body, (zeros, state.model_state), (parted, keys))
    gradients, metrics = jax.tree.map(lambda x: x / parts, sums)
    return gradients, model_state, metrics


def cut(batch: Batch, parts: int) -> Batch:
    """[batch, …] -> [parts, batch / parts, …] of every array, `parts` being a divisor of the batch.

    Part j takes the rows j, j + parts, …: with rows laid out over devices, each part still uses all of them.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), dict(batch))


def check_ema_decay(ema_decay: float | None) -> None:
    """Raises ValueError unless it is in (0, 1), or None for no average."""
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"ema_decay is {ema_decay}; it must be in (0, 1), or None for no average.")


def moving_average(state: State, params: Any, model_state: Any, ema_decay: float | None) -> Any:
    """The state's average after a step to these variables: with `ema_decay`, or (1 + step) / (10 + step) where less."""
    if ema_decay is None:
        return state.ema
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    return optax.incremental_update({"params": params, "model_state": model_state}, state.ema, 1 - decay)
