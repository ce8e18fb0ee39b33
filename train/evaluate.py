"""Numbers over a whole split, exact on its ragged last batch, computed on the devices of a layout.

Sums (`evaluator`) are added on the devices, batch by batch; rows (`map_examples`, `row_evaluator`) come back one per
example. A ragged batch is filled up with examples of weight 0. Both take variables as the layout places them: those of
`layout.variables(placed)` in training, `layout.place_variables(variables)` afterwards. Without a layout, they take
variables from wherever they are, also from several devices, and use one device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import data
from ..errors import InputError
from ..tasks import Batch, Evaluation, RowEvaluation, Variables
from .feed import is_resident
from .layout import Layout, make_layout

Measure = Callable[[Variables], dict[str, np.ndarray]]


def evaluator(
    evaluation: Evaluation,
    source: data.Source,
    layout: Layout | None = None,
    *,
    batch_size: int,
    resident: bool | None = None,
) -> Measure:
    """Numbers over a split, in which each example counts once, times its weight.

    Args:
      evaluation: sums and what to report of them; `tasks.evaluation(task)` for a task's loss and metrics.
      source: the examples.
      layout: where the variables are; None moves them to one device.
      batch_size: number of examples at once; the result does not depend on it.
      resident: keep the examples on the devices; None decides by their size.
    Returns: placed variables -> {name: float64 [*layout.shape]}. It is compiled once for all calls.
    Raises: InputError if `batch_size` is not positive or the split is empty.
    """
    layout, place = _placing(layout)
    batches = placed_batches(source, layout, batch_size, resident)

    def statistics(variables, batch):
        sums = evaluation.statistics(variables, batch)
        return jax.lax.psum(sums, layout.axis_name) if layout.axis_name else sums

    first = layout.compile(lambda v, batch: (statistics(v, batch),), ("state", "batch"), ("members",), donate=False)
    add = layout.compile(
        lambda sums, v, batch: (jax.tree.map(jnp.add, sums, statistics(v, batch)),),
        ("members", "state", "batch"),
        ("members",),
    )

    def evaluate(variables):
        variables = place(variables)
        sums: Any = None
        for batch in batches():
            (sums,) = first(variables, batch) if sums is None else add(sums, variables, batch)
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), layout.unplace(sums))
        return _per_member(evaluation.report, sums, layout.shape)

    return evaluate


def row_evaluator(
    evaluation: RowEvaluation,
    source: data.Source,
    layout: Layout | None = None,
    *,
    batch_size: int,
    resident: bool | None = None,
) -> Measure:
    """Numbers over a split that are reported of all its rows, on the host.

    Args: same as `evaluator`.
    Returns: placed variables -> {name: float64 [*layout.shape]}.
    Raises: same as `evaluator`.
    """
    rows_of = map_examples(evaluation.rows, source, layout, batch_size=batch_size, resident=resident)
    shape = () if layout is None else layout.shape
    return lambda variables: _per_member(evaluation.report, rows_of(variables), shape)


def map_examples(
    function: Callable[[Variables, Batch], Mapping[str, jax.Array]],
    source: data.Source,
    layout: Layout | None = None,
    *,
    batch_size: int,
    resident: bool | None = None,
    keep: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = dict,
) -> Callable[[Variables], dict[str, np.ndarray]]:
    """Applies a function of a batch to every example of a split, in order.

    Args:
      function: (variables, batch) -> {name: [batch, …]}; row i must depend on example i alone.
      source: the examples.
      layout: where the variables are; None moves them to one device.
      batch_size: number of examples at once.
      resident: keep the examples on the devices; None decides by their size.
      keep: rows of a batch on the host -> what is kept of them, row by row, such as masks as run lengths.
    Returns: placed variables -> {name: [*layout.shape, len(source), …]}.
    Raises: InputError if `batch_size` is not positive or the split is empty.
    """
    layout, place = _placing(layout)
    batches = placed_batches(source, layout, batch_size, resident)
    compiled = layout.compile(
        lambda v, batch: (dict(function(v, batch)),), ("state", "batch"), ("batch",), donate=False
    )
    axis = len(layout.shape)

    def rows_of(variables):
        variables = place(variables)
        parts = [dict(keep(layout.unplace_batch(compiled(variables, batch)[0]))) for batch in batches()]
        whole = jax.tree.map(lambda *rows: np.concatenate(rows, axis), *parts)
        return jax.tree.map(lambda rows: rows[(slice(None),) * axis + (slice(len(source)),)], whole)

    return rows_of


def _placing(layout: Layout | None) -> tuple[Layout, Callable[[Variables], Any]]:
    """The layout, and what puts variables where it has them: nothing, unless no layout was given."""
    if layout is not None:
        return layout, lambda variables: variables
    one = make_layout()
    return one, one.place_variables


def placed_batches(
    source: data.Source, layout: Layout, batch_size: int, resident: bool | None
) -> Callable[[], Iterator[Any]]:
    """All batches of a split on the devices of a layout, in order; kept there if the examples are to be resident.

    The last batch is filled up with repetitions of its last example, whose "weight" is 0.

    Raises: InputError if `batch_size` is not positive or the split is empty.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    if not len(source):
        raise InputError(f"{source.name} has no {source.split} examples.")
    batch_size = -(-min(batch_size, len(source)) // layout.devices) * layout.devices

    def read():
        for batch in data.in_order(source, batch_size=batch_size):
            yield layout.place_batch(fill(batch, batch_size), 0)

    if not is_resident(source, resident):
        return read
    kept = list(read())
    return lambda: iter(kept)


def fill(batch: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """A ragged batch, filled up with its last example; "weight" is 0 there."""
    count = len(batch["index"])
    weight = np.asarray(batch.get("weight", np.ones(count)), np.float32)
    missing = batch_size - count
    filled = {name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1), "edge") for name, x in batch.items()}
    return {**filled, "weight": np.pad(weight, (0, missing))}


def _per_member(report: Callable, tree: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Reports for each member, stacked: {name: float64 [*shape]}."""
    reports = [report(jax.tree.map(lambda x, at=at: x[at], tree)) for at in np.ndindex(shape)]
    return {name: np.array([each[name] for each in reports], np.float64).reshape(shape) for name in reports[0]}
