"""Many steps in one call, fed by data that is resident on the devices or streamed to them.

Both feeds have the same signature and, for the same seed, the same batches: batch k of a run is a function of
(seed, k). They differ in where the examples wait. A resident feed runs many steps of an epoch inside one compiled loop
whose length is traced, so that the caller may ask for any number of steps without compiling again or changing a number.
A streaming feed takes its batches from host threads, one compiled call each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data
from ..errors import InputError
from ..tasks import Batch, Mean
from .layout import Layout, check_batch_size
from .step import Step

Rows = Mapping[str, Mean]
RESIDENT_LIMIT = 2 * 1024**3  # bytes of examples that may stay on each device
MOST_STEPS = 256  # in one call of a resident feed
MOST_STREAMED = 8  # in one call of a streaming feed: every dispatched step holds its batch in the devices' memory


@dataclass(frozen=True)
class Feed:
    """A way to take steps."""

    advance: Callable[[Any, int, int], tuple[Any, Callable[[], Rows]]]
    """(placed state, which is donated; first; count) -> (placed state, read). It takes the steps first … first + count
    - 1, which lie in one epoch. `read()` waits for their metrics: {name: `Mean` of NumPy arrays [count,
      *layout.shape]}."""
    steps_per_epoch: int
    """Number of batches in one pass through the examples."""
    most: int
    """The largest `count`."""


def feed(
    step: Step,
    source: data.Source,
    *,
    batch_size: int,
    seed: int | np.ndarray,
    layout: Layout,
    resident: bool | None = None,
    drop_remainder: bool = True,
) -> Feed:
    """The feed that fits: resident if the examples are small enough, else streaming.

    Args:
      step: from `make_step`.
      source: the training examples.
      batch_size: number of examples in a batch, over all devices together; of each member of a population.
      seed: decides the order of the examples, which is a function of (seed, epoch). One seed or, for a population, one
        for each member: [members].
      layout: the layout of the state.
      resident: True or False to choose; None decides by the size of the examples (`RESIDENT_LIMIT`).
      drop_remainder: leave out the examples that do not fill the last batch of an epoch, others in each epoch. False
        fills that batch up with examples of weight 0.
    Raises: InputError if `batch_size` is not positive, does not divide over the devices, or exceeds the examples while
      the remainder is dropped.
    """
    check_batch(source, batch_size, layout.devices, drop_remainder=drop_remainder)
    seeds, own = np.unique(np.broadcast_to(np.asarray(seed), layout.shape), return_inverse=True)
    orders = _Orders(source, batch_size, drop_remainder, [int(seed) for seed in seeds])
    own = layout.place_members(own.reshape(layout.shape).astype(np.int32))
    make = _resident if is_resident(source, resident) else _streaming
    return make(step, orders, own, layout)


def check_batch(
    source: data.Source, batch_size: int, devices: int, accumulate: int = 1, *, drop_remainder: bool = True
) -> None:
    """Raises InputError unless a batch is positive, divides over devices and accumulated parts and, without a
    remainder, can be filled."""
    check_batch_size(batch_size, devices, accumulate)
    if drop_remainder and batch_size > len(source):
        raise InputError(f"batch_size is {batch_size}; {source.name} has only {len(source)} {source.split} examples.")
    if not len(source):
        raise InputError(f"{source.name} has no {source.split} examples.")


def is_resident(source: data.Source, resident: bool | None) -> bool:
    """Whether the examples of a source stay on the devices: as `resident` says, or by their size if it is None."""
    return source.nbytes <= RESIDENT_LIMIT if resident is None else resident


@dataclass(frozen=True)
class _Orders:
    """Which examples each batch of a run has, for each of several seeds."""

    source: data.Source
    batch_size: int
    drop_remainder: bool
    seeds: list[int]

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(len(self.source), self.batch_size)
        return whole + (rest > 0 and not self.drop_remainder)

    def of_epoch(self, epoch: int) -> np.ndarray:
        """int32 [seeds, steps, batch]. Where a batch is filled up with its last example i stands −1 − i."""
        length, drop = len(self.source), self.drop_remainder
        batches = np.stack(
            [data.epoch_batches(seed, epoch, length, self.batch_size, drop_remainder=drop) for seed in self.seeds]
        )
        index, _ = data.repeat_last(batches)
        return np.where(batches < 0, -1 - index, index)

    def stream(self, start_step: int):
        """Endless batches {name: [seeds, batch, …]} from a step on."""
        streams = [
            data.stream(
                self.source,
                batch_size=self.batch_size,
                seed=seed,
                start_step=start_step,
                drop_remainder=self.drop_remainder,
            )
            for seed in self.seeds
        ]
        while True:
            batches = [next(stream) for stream in streams]
            yield {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def _resident(step: Step, orders: _Orders, own: Any, layout: Layout) -> Feed:
    steps_per_epoch = orders.steps_per_epoch
    most = min(steps_per_epoch, MOST_STEPS)
    examples = layout.place_shared(orders.source.arrays())
    compiled = layout.compile(
        scan_steps(layout.guard(step), most),
        ("state", "shared", "batch", "members", "scalar", "scalar"),
        ("state", "members"),
    )
    placed_epoch, placed_orders = None, None

    def advance(placed, first, count):
        nonlocal placed_epoch, placed_orders
        epoch = first // steps_per_epoch
        if epoch != placed_epoch:
            placed_epoch, placed_orders = epoch, layout.place_batch(orders.of_epoch(epoch), 2)
        placed, metrics = compiled(placed, examples, placed_orders, own, first, count)
        return placed, lambda: _rows(layout, metrics, count)

    return Feed(advance, steps_per_epoch, most)


def _streaming(step: Step, orders: _Orders, own: Any, layout: Layout) -> Feed:
    guarded = layout.guard(step)
    compiled = layout.compile(
        lambda state, batches, own: guarded(state, jax.tree.map(lambda x: x[own], batches)),
        ("state", "batch", "members"),
        ("state", "members"),
    )
    position, batches = None, iter(())

    def advance(placed, first, count):
        nonlocal position, batches
        if position != first:  # the beginning of a run, or of the rest of one
            batches = orders.stream(first)
        rows = []
        for _ in range(count):
            placed, metrics = compiled(placed, layout.place_batch(next(batches), 1), own)
            rows.append(metrics)
        position = first + count
        return placed, lambda: jax.tree.map(lambda *parts: np.concatenate(parts), *[_one(layout, row) for row in rows])

    return Feed(advance, orders.steps_per_epoch, MOST_STREAMED)


def _rows(layout: Layout, metrics: Any, count: int) -> Rows:
    """Metrics [most] of each member, as the compiled loop returns them -> [count, *layout.shape] on the host."""
    on_host = jax.tree.map(np.asarray, layout.unplace(metrics))
    return jax.tree.map(lambda x: np.moveaxis(x, len(layout.shape), 0)[:count], on_host)


def _one(layout: Layout, metrics: Any) -> Rows:
    """The metrics of one step of each member -> [1, *layout.shape] on the host."""
    return jax.tree.map(lambda x: np.asarray(x)[None], layout.unplace(metrics))


def scan_steps(step: Step, most: int) -> Callable:
    """Some steps of one epoch as one compiled loop, whose number is traced.

    Args:
      step: (state, batch) -> (state, metrics).
      most: the largest number of steps.
    Returns: (state, examples {name: [n, …]}, orders int [orders, steps of the epoch, batch], own, first, count) ->
      (state, metrics [most, …], of which the first `count` are written). It takes the steps first … first + count - 1
      of the run, on the examples that orders[own] names.
    """

    def take(state, examples, orders, own, first, count):
        order = orders[own]

        def batch(number):
            return gather_batch(examples, order[number % len(order)])

        def body(i, carry):
            state, rows = carry
            state, metrics = step(state, batch(first + i))
            return state, jax.tree.map(lambda all, one: all.at[i].set(one), rows, metrics)

        shapes = jax.eval_shape(step, state, batch(first))[1]
        rows = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, rows))

    return take


def gather_batch(examples: Batch, order: jax.Array) -> Batch:
    """The examples at these indices, with "index". A place that is −1 − i holds example i with weight 0."""
    index = jnp.where(order < 0, -1 - order, order)
    batch = {name: array[index] for name, array in examples.items()}
    weight = jnp.where(order < 0, 0.0, batch.get("weight", 1.0))
    return {**batch, "index": index, "weight": weight}
