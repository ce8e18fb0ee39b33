"""Ways to lay a run out over devices, all with the same numbers.

A `Layout` knows where states and batches live and how to compile a function of them; the training step stays the same.
Here are the layouts of one state: `jit` uses one device; `data` and `fsdp` name shardings of a one-axis mesh and leave
the communication to the compiler; `pmap` keeps a replica of the state on every device and adds sums by hand. A
population (`population.population_layout`) is a layout of many states.

Layouts add in different orders, so that float32 runs differ by rounding. Steps agree to about 1e-6 until an input of a
ReLU that lies within rounding of 0 changes its sign; then they part, as one device does from itself after a change of
1e-7 (docs/classification.md has the figures). In float64 they agree to 1e-15.

Outside of a layout a state always has the shapes it was created with. That is what is checkpointed, so any layout of
one state restores what any other saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..errors import InputError
from .step import Step

AXIS = "batch"


@dataclass(frozen=True)
class Layout:
    """Where the states of a run live, and how functions of them are compiled.

    Arguments and results of compiled functions are of these kinds: "state" (a state, or its variables), "members" (an
    array or tree for each state), "shared" (whole on every device), "batch" (one axis spread over the devices) and
    "scalar" (a Python number).
    """

    shape: tuple[int, ...]
    """() for one state; (members,) for a population. What is measured of a run has this shape."""
    devices: int
    """Number of devices that share a batch."""
    axis_name: str | None
    """The axis that `make_step` and BatchNorm add over by hand; None where the compiler does."""
    gather: Callable[[Any], Any]
    """Within a compiled step: part of a state -> the same, whole on every device. `make_step` computes with it."""
    guard: Callable[[Step], Callable]
    """Step of a state -> step of a placed state: a population's members stop one by one."""
    place_state: Callable[[Any], Any]
    """State (of a population: stacked) -> placed state, a copy."""
    place_variables: Callable[[Any], Any]
    """Variables (of a population: stacked) -> placed variables."""
    place_members: Callable[[Any], Any]
    """Tree of [*shape, …] -> the same, placed."""
    place_shared: Callable[[Any], Any]
    """Tree -> the same tree, whole on every device."""
    place_batch: Callable[[Any, int], Any]
    """(tree, axis) -> the tree with `axis` of each array spread over the devices."""
    compile: Callable[..., Callable]
    """(function, kinds of the arguments, kinds of the results, *, donate=True) -> compiled function of placed
    arguments. The function is that of one state and returns a tuple. `donate` gives up the first argument's memory. A
    "batch" result has the batch on axis 0."""
    state: Callable[[Any], Any]
    """Placed state -> state (of a population: stacked, on the host)."""
    variables: Callable[[Any], Any]
    """Placed state -> placed variables to predict with."""
    unplace: Callable[[Any], Any]
    """Placed variables, or results of kind "members" -> the same as they are outside of the layout."""
    unplace_batch: Callable[[Any], Any]
    """Results of kind "batch" -> [*shape, batch, …] on the host."""
    stop: Callable[[Any, np.ndarray], Any]
    """(placed state, bool [*shape]) -> placed state whose chosen members take no more steps."""


def make_layout(parallel: str = "jit", devices: Sequence[Any] | None = None) -> Layout:
    """The layout of one state that has this name.

    Args:
      parallel: "jit" (one device), "data" (batch sharded, state replicated), "fsdp" (state sharded too) or "pmap" (a
        replica on each device).
      devices: devices to use; all by default, of which jit takes the first.
    Raises: InputError for another name.
    """
    if parallel not in LAYOUTS:
        raise InputError(f"parallel is {parallel!r}; valid are {', '.join(LAYOUTS)}.")
    return LAYOUTS[parallel](list(jax.devices() if devices is None else devices))


def check_batch_size(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raises InputError unless a batch is positive and divides evenly over devices and accumulated parts."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    if accumulate < 1:
        raise InputError(f"accumulate is {accumulate}; it must be at least 1.")
    if batch_size % (devices * accumulate):
        raise InputError(
            f"batch_size is {batch_size}; it must be a multiple of {devices} devices × {accumulate} accumulated parts."
        )


def _mesh(devices: Sequence[Any], state_rule: Callable[[jax.Array, Mesh], NamedSharding]) -> Layout:
    """Arrays with named shardings of a one-axis mesh; the compiler inserts the communication."""
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec(AXIS))

    # The step donates its state, and the caller's state stays the caller's; `may_alias=False` does not keep them apart
    # where an array is only replicated.
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def place_variables(variables):
        return jax.tree.map(lambda x: jax.device_put(x, state_rule(x, mesh)), variables)

    def gather(tree):
        if state_rule is _replicated:
            return tree
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere), tree)

    def place_batch(tree, axis):
        sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
        return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)

    def compile(function, inputs, outputs, *, donate=True):
        compiled = None

        def call(*arguments):
            nonlocal compiled
            if compiled is None:
                # A state must come out as it went in; else the compiler may choose another sharding and compile again.
                of_state = jax.tree.map(lambda x: x.sharding, arguments[0]) if "state" in outputs else None
                shardings = {"state": of_state, "members": everywhere, "batch": spread}
                compiled = jax.jit(
                    function,
                    donate_argnums=0 if donate else (),
                    out_shardings=tuple(shardings[kind] for kind in outputs),
                )
            with jax.set_mesh(mesh):  # for what is computed otherwise where the batch is spread
                return compiled(*arguments)

        return call

    return Layout(
        shape=(),
        devices=len(devices),
        axis_name=None,
        gather=gather,
        guard=lambda step: step,
        place_state=lambda state: copy(place_variables(state)),
        place_variables=place_variables,
        place_members=lambda tree: jax.device_put(tree, everywhere),
        place_shared=lambda tree: jax.device_put(tree, everywhere),
        place_batch=place_batch,
        compile=compile,
        state=lambda placed: placed,
        variables=lambda placed: placed.variables,
        unplace=lambda tree: tree,
        unplace_batch=lambda tree: jax.tree.map(np.asarray, tree),
        stop=lambda placed, chosen: placed,
    )


def _replicated(array: jax.Array, mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def _largest_axis_sharded(array: jax.Array, mesh: Mesh) -> NamedSharding:
    """Spreads an array's largest evenly divisible axis; arrays without one stay whole."""
    axes = [axis for axis, size in enumerate(array.shape) if size % mesh.size == 0]
    if not axes:
        return NamedSharding(mesh, PartitionSpec())
    largest = max(axes, key=lambda axis: array.shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, AXIS))


def _pmap(devices: Sequence[Any]) -> Layout:
    """Replicas with a leading device axis, as before shardings had names; `make_step` adds over `AXIS`."""
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    leading = NamedSharding(mesh, PartitionSpec(AXIS))
    count = len(devices)

    def replicate(tree):
        return jax.tree.map(lambda x: jax.device_put(jnp.broadcast_to(x, (count, *jnp.shape(x))), leading), tree)

    def unreplicate(tree):
        return jax.tree.map(lambda x: x[0], tree)

    def place_batch(tree, axis):
        def spread(x):
            x = np.asarray(x)
            parts = x.reshape(*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
            return jax.device_put(np.moveaxis(parts, axis, 0), leading)

        return jax.tree.map(spread, tree)

    def compile(function, inputs, outputs, *, donate=True):
        in_axes = tuple(None if kind == "scalar" else 0 for kind in inputs)
        donated = 0 if donate else ()
        return jax.pmap(function, AXIS, in_axes=in_axes, donate_argnums=donated, devices=devices)

    return Layout(
        shape=(),
        devices=count,
        axis_name=AXIS,
        gather=lambda tree: tree,
        guard=lambda step: step,
        place_state=replicate,
        place_variables=replicate,
        place_members=replicate,
        place_shared=replicate,
        place_batch=place_batch,
        compile=compile,
        state=unreplicate,
        variables=lambda placed: placed.variables,
        unplace=unreplicate,
        unplace_batch=lambda tree: jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree),
        stop=lambda placed, chosen: placed,
    )


LAYOUTS: dict[str, Callable[[Sequence[Any]], Layout]] = {
    "jit": lambda devices: _mesh(devices[:1], _replicated),
    "data": lambda devices: _mesh(devices, _replicated),
    "fsdp": lambda devices: _mesh(devices, _largest_axis_sharded),
    "pmap": _pmap,
}
