"""Many runs of one program at once: a layout of many states, each with its own seed and hyperparameters.

A population's state is a `State` whose arrays have a leading member axis. Members see the batches of their own seed and
draw from their own key, so that the trajectory of each is that of the same run alone. `population_layout` is a `Layout`
like those of one state: the same feeds, loop and evaluators serve it.

A member whose loss or gradient is not finite stops at the state before: its `step` stands still, its metrics are NaN
from there on, and no other member notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ..errors import InputError
from ..tasks import Game, Task
from .layout import Layout
from .optimizers import Hyper, MakeOptimizer
from .placement import Placement
from .state import State, compile_create
from .step import Step

AXIS = "member"


@dataclass(frozen=True)
class Members:
    """Who is in a population."""

    seeds: np.ndarray
    """[members] int64: seeds of initialization, order of the data and augmentation."""
    hyper: Mapping[str, np.ndarray]
    """Name -> [members] float64, the hyperparameters."""

    def __len__(self) -> int:
        return len(self.seeds)


def grid(seeds: Sequence[int], hyper: Mapping[str, Sequence[float]]) -> Members:
    """Every combination of hyperparameters with every seed; the seed varies fastest.

    Args:
      seeds: at least one.
      hyper: name -> values, at least one each.
    Raises: InputError if there are no seeds, or no values of a hyperparameter.

    >>> members = grid([0, 1], {"learning_rate": [0.1, 0.2]})
    >>> len(members), members.seeds.tolist(), members.hyper["learning_rate"].tolist()
    (4, [0, 1, 0, 1], [0.1, 0.1, 0.2, 0.2])
    """
    empty = [name for name, values in {"seeds": seeds, **hyper}.items() if not len(values)]
    if empty:
        raise InputError(f"A population needs at least one value of each; it was given none of {', '.join(empty)}.")
    rows = list(product(*hyper.values(), seeds))
    columns = list(zip(*rows, strict=True))
    named = {name: np.asarray(column, np.float64) for name, column in zip(hyper, columns[:-1], strict=True)}
    return Members(np.asarray(columns[-1], np.int64), named)


def create_population(
    task: Task | Game,
    make_optimizer: MakeOptimizer,
    members: Members,
    *,
    make_schedule: Callable[[Hyper], optax.Schedule] | None = None,
    ema: bool = False,
    start: Any = None,
) -> State:
    """The stacked states at step 0; that of member i is `create_state(…, key(seeds[i]), hyper[i])`.

    Args:
      task: has the initial variables.
      make_optimizer: (learning rate, hyper) -> optax transformation.
      members: seeds and hyperparameters.
      make_schedule: same as `create_state`.
      ema: keep moving averages.
      start: same as in `create_state`, for all members.
    Returns: a `State` of [members, …], on the host but for keys.
    """
    create = compile_create(task, make_optimizer, make_schedule=make_schedule, ema=ema, start=start)
    # One by one: batched, initializers take twice as long to compile, and a call takes less than a millisecond.
    states = [
        create(jax.random.key(int(seed)), {name: values[i] for name, values in members.hyper.items()})
        for i, seed in enumerate(members.seeds)
    ]
    return _stack(states)


def member(tree: Any, number: int) -> Any:
    """One member's part of a stacked tree: a `State` or variables of [members, …] -> those of a single run."""
    return jax.tree.map(lambda x: x[number], tree)


@flax.struct.dataclass
class Running:
    """A placed member: its state, and whether it still takes steps."""

    state: State
    running: jax.Array


def guard(step: Step) -> Callable[[Running, Any], tuple[Running, Any]]:
    """A step that is taken only while loss and gradient are finite.

    Args:
      step: (state, batch) -> (state, metrics).
    Returns: (member, batch) -> (member, metrics). It is `step` while the member runs; from the first step on whose loss
      or gradient is not finite, it returns the state as it was before that step, and metrics of NaN.
    """

    def guarded(one: Running, batch):
        after, metrics = step(one.state, batch)
        # Not of the new parameters: to wait for them would keep the update and the choice from being one loop over
        # memory. Parameters that are not finite give a loss that is not, one step later.
        finite = jnp.isfinite(metrics["loss"].total) & jnp.isfinite(metrics["gradient_norm"].total)
        running = one.running & finite
        kept = jax.tree.map(partial(jnp.where, running), after, one.state)
        return Running(kept, running), jax.tree.map(lambda value: jnp.where(running, value, jnp.nan), metrics)

    return guarded


def population_layout(placement: Placement, members: int) -> Layout:
    """The layout of a population. Members are filled up with copies of the last one to a multiple of the devices.

    Args:
      placement: from `placement` or `fastest_placement`.
      members: number of members.
    """
    count = placement.devices
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    spread, whole = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())
    padded = np.minimum(np.arange(-(-members // count) * count), members - 1)
    chunk = placement.chunk if placement.chunk > 1 else None

    def compile(function, inputs, outputs, *, donate=True):
        own = [kind in ("state", "members") for kind in inputs]

        def of_one(stacked, shared):
            stacked, shared = iter(stacked), iter(shared)
            return function(*(next(stacked) if mine else next(shared) for mine in own))

        def of_device(stacked, shared):
            return jax.lax.map(lambda one: of_one(one, shared), stacked, batch_size=chunk)

        def of_all(*arguments):
            stacked = tuple(x for x, mine in zip(arguments, own, strict=True) if mine)
            shared = tuple(x for x, mine in zip(arguments, own, strict=True) if not mine)
            mapped = jax.shard_map(
                of_device,
                mesh=mesh,
                in_specs=(PartitionSpec(AXIS), PartitionSpec()),
                out_specs=PartitionSpec(AXIS),
                check_vma=False,
            )
            return mapped(stacked, shared)

        return jax.jit(of_all, donate_argnums=0 if donate else ())

    def place(tree):
        return jax.device_put(_rows(tree, padded), spread)

    def unplace(tree):
        return _rows(tree, np.arange(members))

    def place_state(state):
        steps = np.asarray(state.step)
        return place(Running(state, steps == steps.max()))  # who stopped earlier does not go on

    def share(tree, axis=0):
        return jax.device_put(tree, whole)

    def stop(placed, chosen):
        return replace(placed, running=place(unplace(placed.running) & ~chosen))

    return Layout(
        shape=(members,),
        devices=1,
        axis_name=None,
        gather=lambda tree: tree,
        guard=guard,
        place_state=place_state,
        place_variables=place,
        place_members=place,
        place_shared=share,
        place_batch=share,
        compile=compile,
        state=lambda placed: unplace(placed.state),
        variables=lambda placed: placed.state.variables,
        unplace=unplace,
        unplace_batch=unplace,
        stop=stop,
    )


def _rows(tree: Any, rows: np.ndarray) -> Any:
    """Some rows of every array, as copies on the host.

    Not by indexing on the devices: that would gather over them, and on CPUs several gathers in flight wait for each
    other forever if there are fewer threads than devices.
    """

    def chosen(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(x))[rows]))
        return np.asarray(x)[rows]

    return jax.tree.map(chosen, tree)


def _stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one tree with a leading axis, on the host but for keys."""

    def stack(*parts):
        if jnp.issubdtype(parts[0].dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.stack([jax.random.key_data(x) for x in parts])))
        return np.stack(parts)

    return jax.tree.map(stack, *trees)
