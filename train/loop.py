"""The training loop: epochs, validation, checkpoints, early stopping, and the end of a diverging run.

One loop trains one state or a population of them: what is measured has the shape of the layout, () or [members], and
every decision (best so far, patience, divergence) is taken for each member by itself. The loop holds no numbers of its
own that matter: the parameters of a run are a function of the step function, the data and the seed, however the steps
are grouped into calls, wherever the run was killed and resumed. It reads the metrics of one call only after it
dispatched the next, so that devices never wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..tasks import Variables
from .checkpoint import Checkpoints
from .feed import Feed
from .journal import Journal
from .layout import Layout
from .progress import Progress
from .signals import stop_requested
from .state import State

SAVE_SECONDS = 10.0  # of short epochs not each is saved: writing would take longer than training
CALL_SECONDS = 0.5  # how long one call should take: progress moves, and the cost of a call stays invisible


class Diverged(ArithmeticError):
    """The loss, a gradient or a parameter is no longer finite, of every member."""


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, has saved its state and can go on."""


@dataclass(frozen=True)
class Fitted:
    """What a run of `fit` ends with.

    Numbers have the shape of the layout: [] for one run, [members] for a population.
    """

    state: State
    """The last state; of a population, stacked."""
    best: Variables
    """Variables to predict with: those of the best validation or, without validation, the last ones."""
    best_epoch: np.ndarray
    """int: the epoch of the best validation, from 1; 0 if there was none."""
    epochs: tuple[Mapping[str, Any], ...]
    """One record per epoch: {"epoch", "step", "train": {metric: mean over the epoch}, "validation": {metric: mean}}. A
    member that diverged or stopped has NaN from there on."""
    diverged_at: np.ndarray
    """int: the step that could not be taken, or -1."""
    stopped_early: np.ndarray
    """bool: whether patience ran out."""

    def at_best(self, split: str, metric: str) -> np.ndarray:
        """float64: a metric ("train" or "validation") of the best epoch; NaN if there was none."""
        values = np.stack([epoch[split][metric] for epoch in self.epochs])
        row = np.maximum(self.best_epoch - self.epochs[0]["epoch"], 0)
        chosen = np.take_along_axis(values, row[None], axis=0)[0]
        return np.where(self.best_epoch > 0, chosen, np.nan)


def fit(
    state: State,
    feed: Feed,
    layout: Layout,
    *,
    epochs: int,
    validate: Callable[[Variables], Mapping[str, np.ndarray]] | None = None,
    better: Callable[[Mapping[str, Any]], tuple[Any, ...]] = lambda validation: (-validation["loss"],),
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    journal: Journal | None = None,
    title: str = "training",
) -> Fitted:
    """Trains for a number of epochs, or goes on from the newest checkpoint.

    Args:
      state: the state at step 0 or, in a run of several stages, that of the stage before; of a population, stacked.
      feed: takes the steps.
      layout: the feed's layout.
      epochs: number of passes through the training examples.
      validate: placed variables -> {metric: [*layout.shape]} on the validation split (`evaluator`), called after every
        epoch; None for no validation.
      better: validation metrics -> score, a tuple that is compared from left to right; the highest is the best, the
        first of equals.
      patience: number of epochs without a better score after which a member stops; None never stops early.
      checkpoints: where states are saved: after the last epoch, and after others if `SAVE_SECONDS` have passed. The
        best variables so far are saved with them. None saves nothing and cannot resume.
      checkpoint_every: number of steps after which to save too, whatever the time.
      log_every: number of steps between two records of the training metrics; None for about 2,000 records a run.
      journal: receives records and messages. Of a population it gets the median member.
      title: title of the progress bar.
    Returns: `Fitted`.
    Raises: InputError for numbers out of range; `Diverged` once no member is left that could go on, with the step, and
      with whole checkpoints before it; `Stopped` after SIGINT or SIGTERM, with the state saved.
    """
    check_counts(epochs=epochs, patience=patience, checkpoint_every=checkpoint_every, log_every=log_every)
    per_epoch = feed.steps_per_epoch
    run = _Run(state, feed, layout, validate, better, patience, checkpoints, journal or Journal(), epochs, log_every)
    run.journal.begin(title, run.step, run.total, run.records)
    run.journal.display.doing("compiling the training step …")
    try:
        with stop_requested() as stop:
            count, saved_at = 1, time.perf_counter()
            while run.step < run.total and not run.progress.ended.all():
                count = min(count, feed.most, per_epoch - run.step % per_epoch)
                if checkpoint_every:
                    count = min(count, checkpoint_every - run.step % checkpoint_every)
                began = time.perf_counter()
                run.advance(count)
                # One call behind, the time between two calls is that of the slower of device and host.
                count = next_count(count, time.perf_counter() - began)

                saving = bool(checkpoint_every and run.step % checkpoint_every == 0)
                if run.step % per_epoch == 0:
                    run.end_epoch()
                    saving |= run.step == run.total or bool(run.progress.ended.all())
                    saving |= time.perf_counter() - saved_at >= SAVE_SECONDS
                stopping = stop()  # also asked for within the validation, which may take long
                if saving or stopping:
                    run.save()
                    saved_at = time.perf_counter()
                if stopping and run.step < run.total:
                    raise Stopped(f"stopped after step {run.step} of {run.total}")
        run.journal.display.extend(run.step)  # fewer than planned, if patience ran out
    finally:
        if checkpoints:
            checkpoints.wait()
        run.journal.end()
    return run.fitted()


class _Run:
    """What `fit` changes as it goes: the placed state, the best variables, the progress, and the calls not yet read."""

    def __init__(
        self,
        state: State,
        feed: Feed,
        layout: Layout,
        validate: Callable[[Variables], Mapping[str, np.ndarray]] | None,
        better: Callable[[Mapping[str, Any]], tuple[Any, ...]],
        patience: int | None,
        checkpoints: Checkpoints | None,
        journal: Journal,
        epochs: int,
        log_every: int | None,
    ):
        self.feed, self.layout, self.epochs = feed, layout, epochs
        self.validate, self.better, self.patience = validate, better, patience
        self.checkpoints, self.journal = checkpoints, journal
        self.total = epochs * feed.steps_per_epoch
        self.log_every = log_every or max(1, self.total // 2000)
        self.is_finite = layout.compile(lambda v: (_all_finite(v),), ("state",), ("members",), donate=False)
        self.select = layout.compile(_select, ("state", "state", "members"), ("state",), donate=False)

        start = {"state": state, "best": state.variables if validate else None}
        restored = checkpoints.restore(start) if checkpoints else None
        self.progress = Progress.of_record(layout.shape, restored.record if restored else {})
        self.step = restored.step if restored else int(np.max(state.step))
        self.records = restored.record.get("records", 0) if restored else 0
        if restored and self.step > int(np.max(state.step)):
            journal.display.say(f"Resuming after step {self.step} of {self.total}.")
        start = restored.tree if restored else start
        self.placed = layout.stop(layout.place_state(start["state"]), self.progress.ended)
        self.best = layout.place_variables(start["best"]) if validate else None
        self.pending: list[tuple[int, Callable]] = []
        self.validated = False

    def advance(self, count: int) -> None:
        """Dispatches `count` steps, then reads the metrics of the call before."""
        self.placed, read = self.feed.advance(self.placed, self.step, count)
        self.pending.append((self.step, read))
        self.step += count
        self.read(all_but=1)

    def read(self, all_but: int = 0) -> None:
        """Reads the metrics of calls, the oldest first, until so many are left."""
        while len(self.pending) > all_but:
            first, read = self.pending.pop(0)
            rows = read()
            self.progress.add(first, rows)
            if self.progress.none_left:
                raise _diverged(self.progress, self.checkpoints, rows)
            values = {name: mean.value for name, mean in rows.items()}
            for i in range(-(first + 1) % self.log_every, len(values["loss"]), self.log_every):
                at = {name: value[i] for name, value in values.items()}
                self.journal.record("train", first + i + 1, (first + i + 1) / self.feed.steps_per_epoch, at)
            self.journal.progress(first + len(values["loss"]), values["loss"][-1])

    def end_epoch(self) -> None:
        """Validates, keeps the variables of members that are better than before, and stops those out of patience."""
        self.read()
        variables = self.layout.variables(self.placed)
        validation = self.measure(variables)
        improved, tired = self.progress.end_epoch(
            self.step, self.feed.steps_per_epoch, validation, self.better, self.patience
        )
        if improved.any():
            (self.best,) = self.select(self.best, variables, self.layout.place_members(improved))
        if tired.any():
            self.placed = self.layout.stop(self.placed, tired)
        self.journal.end_epoch(self.progress.epochs[-1], self.epochs)

    def measure(self, variables: Variables) -> dict[str, np.ndarray]:
        """The validation's metrics; {} if there is none."""
        if self.validate is None:
            return {}
        if self.validated:
            self.journal.display.note("validating …")
        else:
            self.journal.display.doing("compiling the validation …")
        self.validated = True
        return dict(self.validate(variables))

    def save(self) -> None:
        """Saves a checkpoint, if there is where to, unless no member has finite parameters."""
        self.read()
        if self.checkpoints:
            finite = np.asarray(self.layout.unplace(self.is_finite(self.layout.variables(self.placed))[0]))
            self.progress.diverge(self.step, ~finite)
            if self.progress.none_left:
                raise _diverged(self.progress, self.checkpoints)
            self.journal.flush()
            best = self.layout.unplace(self.best) if self.validate else None
            content = {"state": self.layout.state(self.placed), "best": best}
            self.checkpoints.save(self.step, content, self.progress.record() | {"records": self.journal.count})

    def fitted(self) -> Fitted:
        """What the run ends with."""
        last, progress = self.layout.state(self.placed), self.progress
        has_best = self.best is not None and progress.best_epoch.any()
        return Fitted(
            state=last,
            best=self.layout.unplace(self.best) if has_best else last.variables,
            best_epoch=progress.best_epoch,
            epochs=tuple(progress.epochs),
            diverged_at=progress.diverged_at,
            stopped_early=progress.stopped_early,
        )


def check_counts(**counts: int | None) -> None:
    """Raises InputError unless each number, if there is one, is at least 1."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")


def next_count(count: int, seconds: float) -> int:
    """The number of steps of the next call, if `count` took `seconds`: about `CALL_SECONDS`, at most doubled."""
    return max(1, count * 2 if seconds < CALL_SECONDS / 2 else int(count * CALL_SECONDS / seconds))


def _select(old: Any, new: Any, chosen: jax.Array) -> tuple[Any]:
    """The new variables if chosen, else the old ones, in memory of their own: the next step takes that of `new`."""
    return (jax.tree.map(partial(jnp.where, chosen), new, old),)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def _diverged(progress: Progress, checkpoints: Checkpoints | None, rows: Mapping[str, Any] | None = None) -> Diverged:
    kept = checkpoints.steps() if checkpoints else []
    last = f"the last good checkpoint is that of step {kept[-1]}" if kept else "there is no checkpoint yet"
    step, first, members = int(progress.diverged_at.max()), progress.diverged_at.min(), progress.diverged_at.size
    if progress.diverged_at.shape:
        return Diverged(
            f"All {members} members diverged, the first in step {first + 1}, the last in step {step + 1}; {last}. Try "
            "lower learning rates."
        )
    rate = ""
    if rows is not None:
        values = rows["learning_rate"].value
        rate = f" at learning rate {float(values[step - progress.step + len(values)]):.3g}"
    return Diverged(
        f"Training diverged: loss, gradient or a parameter is not finite in step {step + 1}{rate}; {last}. Try a lower "
        "learning rate."
    )
