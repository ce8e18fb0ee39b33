"""Numbers over a whole split, exact on its ragged last batch.

One primitive, `map_examples`, applies a per-example function batch by batch and returns one row per example:
evaluation is its mean, predictions are its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data
from .feed import is_resident
from .task import Batch, Task, Variables


def evaluator(
    task: Task, source: data.Source, *, batch_size: int, resident: bool | None = None
) -> Callable[[Variables], dict[str, float]]:
    """Mean metrics of a task over every example of a split, each counted once.

    Args:
      task: its loss is called with train=False.
      source: the examples.
      batch_size: how many at once; the result does not depend on it.
      resident: see `map_examples`.
    Returns: variables -> {metric: mean}. Compiled once, for all calls.
    """

    rows_of = map_examples(per_example_metrics(task), source, batch_size=batch_size, resident=resident)

    def evaluate(variables):
        return {name: float(rows.mean(dtype=np.float64)) for name, rows in rows_of(variables).items()}

    return evaluate


def per_example_metrics(task: Task) -> Callable[[Variables, Batch], dict[str, jax.Array]]:
    """(variables, batch) -> the task's metrics at prediction, {name: [batch]}."""

    def metrics(variables, batch):
        model_state = {name: value for name, value in variables.items() if name != "params"}
        # Nothing is random at prediction: the key is there for the signature.
        _, aux = task.loss(variables["params"], model_state, batch, jax.random.key(0), False, {})
        return dict(aux.metrics)

    return metrics


def map_examples(
    function: Callable[[Variables, Batch], Mapping[str, jax.Array]],
    source: data.Source,
    *,
    batch_size: int,
    resident: bool | None = None,
) -> Callable[[Variables], dict[str, np.ndarray]]:
    """Applies a function of a batch to every example of a split, in order.

    Args:
      function: (variables, batch) -> {name: [batch, …]}; row i must depend on example i alone.
      source: the examples.
      batch_size: how many at once, at most the number of examples.
      resident: keep the examples on the device and run one compiled loop; None leaves it to their size.
    Returns: variables -> {name: [len(source), …]}.
    Raises: ValueError if `batch_size` is not positive or the split is empty.
    """
    batch_size = evaluation_batch(source, batch_size)
    make = _resident if is_resident(source, resident) else _streaming
    return make(function, source, batch_size)


def evaluation_batch(source: data.Source, batch_size: int) -> int:
    """How many examples of a split are looked at at once: `batch_size`, or all where there are fewer.

    Raises: ValueError if `batch_size` is not positive or the split is empty.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if not len(source):
        raise ValueError(f"{source.name} has no {source.split} examples.")
    return min(batch_size, len(source))


def _resident(function: Callable, source: data.Source, batch_size: int):
    examples = jax.tree.map(jnp.asarray, source.arrays())
    # The last rows are filled up with the last example, and cut off again.
    batches = -(-len(source) // batch_size)
    index = np.minimum(np.arange(batches * batch_size), len(source) - 1).astype(np.int32)
    index = index.reshape(batches, batch_size)

    @jax.jit
    def run(variables, examples, index):
        def one(rows):
            batch = {name: array[rows] for name, array in examples.items()}
            return function(variables, batch | {"index": rows})

        return jax.lax.map(one, index)

    def rows_of(variables):
        stacked = run(variables, examples, index)
        return {name: np.asarray(x).reshape(-1, *x.shape[2:])[: len(source)] for name, x in stacked.items()}

    return rows_of


def _streaming(function: Callable, source: data.Source, batch_size: int):
    run = jax.jit(function)

    def rows_of(variables: Any):
        parts = []
        for batch in data.in_order(source, batch_size=batch_size):
            parts.append((run(variables, fill(batch, batch_size)), len(batch["index"])))
        rows = [{name: np.asarray(x)[:kept] for name, x in out.items()} for out, kept in parts]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return rows_of


def fill(batch: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """A ragged batch, filled up with its last example."""
    missing = batch_size - len(batch["index"])
    return {name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), "edge") for name, x in batch.items()}
