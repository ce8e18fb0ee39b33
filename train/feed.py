"""Many steps in one call, fed by data that is resident on the devices or streamed to them.

Both feeds have the same signature and, for the same seed, the same batches: batch k of a run is a function of
(seed, k). They differ in where the examples wait. A resident feed runs a whole stretch of an epoch inside one
compiled loop whose length is traced, so that the caller may ask for any number of steps without compiling again
or changing a number; a streaming feed takes its batches from host threads, one compiled call each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data
from .parallel import Layout, check_batch_size
from .step import Step

Metrics = Mapping[str, np.ndarray]
RESIDENT_LIMIT = 2 * 1024**3  # bytes of examples that may stay on each device
LONGEST_STRETCH = 256  # steps in one call


@dataclass(frozen=True)
class Feed:
    """A way to take steps.

    advance: (placed state, which is donated; first; count) -> (placed state, read): takes the steps
      first … first + count - 1, which lie in one epoch. `read()` waits for their metrics, each [count] float32.
    steps_per_epoch: the ragged last batch of an epoch is left out.
    most: the largest `count`.
    """

    advance: Callable[[Any, int, int], tuple[Any, Callable[[], Metrics]]]
    steps_per_epoch: int
    most: int


def feed(
    step: Step,
    source: data.Source,
    *,
    batch_size: int,
    seed: int,
    where: Layout,
    resident: bool | None = None,
) -> Feed:
    """The feed that fits: resident where the examples are small enough, else streaming.

    Args:
      step: from `make_step`.
      source: the training examples.
      batch_size: of all devices together.
      seed: of the order of the examples, which is a function of (seed, epoch).
      where: the layout of the state.
      resident: True or False to choose; None leaves it to the size of the examples (`RESIDENT_LIMIT`).
    Raises: ValueError if `batch_size` is not positive, does not fit the devices or exceeds the data.
    """
    check_batch(source, batch_size, where.devices)
    make = _resident if is_resident(source, resident) else _streaming
    return make(step, source, batch_size, seed, where)


def check_batch(source: data.Source, batch_size: int, devices: int) -> None:
    """Raises ValueError unless a batch is positive, cuts evenly over the devices and does not exceed the data."""
    check_batch_size(batch_size, devices)
    if batch_size > len(source):
        raise ValueError(f"batch_size is {batch_size}; {source.name} has only {len(source)} {source.split} examples.")


def is_resident(source: data.Source, resident: bool | None) -> bool:
    """Whether a source's examples stay on the devices: as `resident` says, or by their size."""
    return source.nbytes <= RESIDENT_LIMIT if resident is None else resident


def _resident(step: Step, source: data.Source, batch_size: int, seed: int, where: Layout) -> Feed:
    steps_per_epoch = len(source) // batch_size
    most = min(steps_per_epoch, LONGEST_STRETCH)
    examples = where.place_shared(source.arrays())
    compiled = where.compile(stretch(step, most), ("shared", "batch", "scalar", "scalar"))
    placed_epoch, order = None, None

    def advance(state, first, count):
        nonlocal placed_epoch, order
        epoch = first // steps_per_epoch
        if epoch != placed_epoch:
            order = where.place_batch(epoch_batches(source, batch_size, seed, epoch), 1)
            placed_epoch = epoch
        state, metrics = compiled(state, examples, order, first, count)
        return state, lambda: _rows(where.logical_metrics(metrics), count)

    return Feed(advance, steps_per_epoch, most)


def stretch(step: Step, most: int) -> Callable:
    """Some steps of one epoch as one loop.

    Args:
      step: (state, batch) -> (state, metrics).
      most: the largest number of steps.
    Returns: (state, examples {name: [n, …]}, order int [steps of the epoch, batch], first, count) -> (state, metrics
      [most, …], of which the first `count` were written): the steps first … first + count - 1 of the run.
    """

    def take(state, examples, order, first, count):
        def batch(number):
            index = order[number % len(order)]
            return {name: array[index] for name, array in examples.items()} | {"index": index}

        def body(i, carry):
            state, rows = carry
            state, metrics = step(state, batch(first + i))
            return state, jax.tree.map(lambda all, one: all.at[i].set(one), rows, metrics)

        shapes = jax.eval_shape(step, state, batch(first))[1]
        rows = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, rows))

    return take


def epoch_batches(source: data.Source, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Which examples each batch of an epoch has: int32 [steps, batch]; what does not fill a batch is left out."""
    steps = len(source) // batch_size
    return data.epoch_order(seed, epoch, len(source))[: steps * batch_size].reshape(steps, batch_size)


def _rows(metrics: Mapping[str, jax.Array], count: int) -> Metrics:
    return {name: np.asarray(values)[:count] for name, values in metrics.items()}


def _streaming(step: Step, source: data.Source, batch_size: int, seed: int, where: Layout) -> Feed:
    compiled = where.compile(step, ("batch",))
    position, batches = None, iter(())

    def advance(state, first, count):
        nonlocal position, batches
        if position != first:  # the beginning of a run, or of the rest of one
            batches = data.stream(source, batch_size=batch_size, seed=seed, start_step=first)
        rows = []
        for _ in range(count):
            state, metrics = compiled(state, where.place_batch(next(batches), 0))
            rows.append(metrics)
        position = first + count
        return state, lambda: _stacked([where.logical_metrics(row) for row in rows])

    # Few at a time: every dispatched step holds its batch in the devices' memory.
    return Feed(advance, len(source) // batch_size, most=8)


def _stacked(rows: list) -> Metrics:
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
