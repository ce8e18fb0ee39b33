"""Four ways to lay a run out over devices, all with the same numbers.

A `Layout` knows where a state and a batch live and how to compile a function of them; the step itself stays the
same. `jit` uses one device; `data` and `fsdp` name shardings of a one-axis mesh and leave the communication to
the compiler; `pmap` keeps a replica of the state on every device and averages by hand. Outside of a layout a
state always has its logical shapes: that is what is checkpointed, so that any layout restores what any other saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .step import Step

AXIS = "batch"
MODES = ("jit", "data", "fsdp", "pmap")


@dataclass(frozen=True)
class Layout:
    """Where a run lives.

    devices: how many share a batch.
    axis_name: what `make_step` and BatchNorm average over by hand; None where the compiler does.
    gather: within a compiled step, part of a state -> the same, whole on every device: what `make_step` computes with.
    place_state: logical state -> state on the devices.
    place_shared: tree -> the same tree, whole on every device.
    place_batch: (tree, axis) -> the tree with `axis` of each array spread over the devices.
    compile: (function, kinds) -> compiled function. The function maps (state, *arguments) to (state, metrics);
      `kinds` says of each argument whether it is "shared", "batch" (placed so) or a "scalar". Donates the state.
    logical: state on the devices -> logical state, still on devices.
    logical_metrics: metrics that a compiled function returned -> their logical shapes.
    """

    devices: int
    axis_name: str | None
    gather: Callable[[Any], Any]
    place_state: Callable[[Any], Any]
    place_shared: Callable[[Any], Any]
    place_batch: Callable[[Any, int], Any]
    compile: Callable[[Callable, Sequence[str]], Callable]
    logical: Callable[[Any], Any]
    logical_metrics: Callable[[Any], Any]


def layout(parallel: str = "jit", devices: Sequence[Any] | None = None) -> Layout:
    """The layout of this name.

    Args:
      parallel: "jit" (one device), "data" (batch sharded, state replicated), "fsdp" (state sharded too) or
        "pmap" (a replica per device).
      devices: which to use; all of them by default, of which jit takes the first.
    Raises: ValueError for another name.
    """
    devices = list(jax.devices() if devices is None else devices)
    makers = {
        "jit": lambda: _mesh(devices[:1], _replicated),
        "data": lambda: _mesh(devices, _replicated),
        "fsdp": lambda: _mesh(devices, _largest_axis_sharded),
        "pmap": lambda: _pmap(devices),
    }
    if parallel not in makers:
        raise ValueError(f"parallel is {parallel!r}; valid are {', '.join(MODES)}.")
    return makers[parallel]()


@dataclass(frozen=True)
class CompiledStep:
    """A step compiled for a layout: `place` a logical state once, then call with host batches."""

    layout: Layout
    run: Callable

    def place(self, state: Any) -> Any:
        """Logical state -> state on the devices."""
        return self.layout.place_state(state)

    def logical(self, state: Any) -> Any:
        """State on the devices -> logical state."""
        return self.layout.logical(state)

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """(placed state, which is donated; batch [batch, …]) -> (placed state, metrics)."""
        state, metrics = self.run(state, self.layout.place_batch(batch, 0))
        return state, self.layout.logical_metrics(metrics)


def compile_step(step: Step, *, parallel: str = "jit", devices: Sequence[Any] | None = None) -> CompiledStep:
    """Compiles a training step for the devices.

    Args:
      step: from `make_step`; for pmap, made with `axis_name=AXIS`, and so its BatchNorm; for fsdp, with the layout's
        `gather`.
      parallel: see `layout`.
      devices: see `layout`.
    Raises: ValueError for an unknown `parallel`.
    """
    where = layout(parallel, devices)
    return CompiledStep(where, where.compile(step, ("batch",)))


def check_batch_size(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raises ValueError unless a batch is positive and cuts evenly over devices and accumulated parts."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}; it must be at least 1.")
    if batch_size % (devices * accumulate):
        raise ValueError(
            f"batch_size is {batch_size}; it must be a multiple of {devices} devices × {accumulate} accumulated parts."
        )


def _mesh(devices: Sequence[Any], state_rule: Callable[[Any, Mesh], NamedSharding]) -> Layout:
    """Arrays with named shardings of a one-axis mesh; the compiler inserts the communication."""
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    everywhere = NamedSharding(mesh, PartitionSpec())

    # The step donates what it is given, and the caller's state stays the caller's; `may_alias=False` does not
    # keep them apart where an array is only replicated.
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def place_state(state):
        return copy(jax.tree.map(lambda x: jax.device_put(x, state_rule(x, mesh)), state))

    def gather(tree):
        if state_rule is _replicated:
            return tree
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere), tree)

    def place_batch(tree, axis):
        sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
        return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)

    def compile(function, kinds):
        # The state must come out as it went in; else the compiler may choose another sharding and compile again.
        compiled = None

        def call(state, *arguments):
            nonlocal compiled
            if compiled is None:
                shardings = jax.tree.map(lambda x: x.sharding, state)
                compiled = jax.jit(function, donate_argnums=0, out_shardings=(shardings, everywhere))
            with jax.set_mesh(mesh):  # for what is computed otherwise where the batch is spread
                return compiled(state, *arguments)

        return call

    return Layout(
        devices=len(devices),
        axis_name=None,
        gather=gather,
        place_state=place_state,
        place_shared=lambda tree: jax.device_put(tree, everywhere),
        place_batch=place_batch,
        compile=compile,
        logical=lambda state: state,
        logical_metrics=lambda metrics: metrics,
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
    """Replicas with a leading device axis, as before shardings had names; `make_step` averages over `AXIS`."""
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    leading = NamedSharding(mesh, PartitionSpec(AXIS))
    count = len(devices)

    def replicate(tree):
        return jax.tree.map(lambda x: jax.device_put(jnp.broadcast_to(x, (count, *x.shape)), leading), tree)

    def place_batch(tree, axis):
        def spread(x):
            x = np.asarray(x)
            parts = x.reshape(*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
            return jax.device_put(np.moveaxis(parts, axis, 0), leading)

        return jax.tree.map(spread, tree)

    def compile(function, kinds):
        in_axes = (0, *(None if kind == "scalar" else 0 for kind in kinds))
        return jax.pmap(function, AXIS, in_axes=in_axes, donate_argnums=0, devices=devices)

    return Layout(
        devices=count,
        axis_name=AXIS,
        gather=lambda tree: tree,
        place_state=replicate,
        place_shared=replicate,
        place_batch=place_batch,
        compile=compile,
        logical=lambda state: jax.tree.map(lambda x: x[0], state),
        logical_metrics=lambda metrics: jax.tree.map(lambda x: x[0], metrics),
    )
