"""The training loop: epochs, validation, checkpoints, early stopping, and the end of a diverging run.

The loop holds no numbers of its own that matter: the parameters of a run are a function of the step function,
the data and the seed, however the steps are grouped into calls, wherever the run was killed and resumed. It
reads the metrics of one call only after it dispatched the next, so that devices never wait for it.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .checkpoint import Checkpoints
from .feed import Feed
from .journal import Journal
from .parallel import Layout
from .state import State
from .task import Variables

SAVE_SECONDS = 10.0  # of short epochs not each is saved: writing would take longer than training
CALL_SECONDS = 0.5  # how long one call should take: progress moves, and the cost of a call stays invisible


class Diverged(ArithmeticError):
    """The loss, a gradient or a parameter is no longer finite."""


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, has saved its state and can go on."""


@dataclass(frozen=True)
class Fitted:
    """What a run of `fit` ends with.

    state: the last state, logical.
    best: what to predict with: the variables of the best validation, or the last ones where there was none.
    best_step: their step.
    epochs: one record per epoch: {"epoch", "step", "train": {metric: mean over the epoch's minibatches},
      "validation": {metric: mean}}.
    stopped_early: whether patience ran out.
    """

    state: State
    best: Variables
    best_step: int
    epochs: tuple[Mapping[str, Any], ...]
    stopped_early: bool

    @property
    def best_epoch(self) -> Mapping[str, Any]:
        return next(epoch for epoch in self.epochs if epoch["step"] == self.best_step)


def fit(
    state: State,
    feed: Feed,
    where: Layout,
    *,
    epochs: int,
    validate: Callable[[Variables], Mapping[str, float]] | None = None,
    better: Callable[[Mapping[str, float]], tuple[float, ...]] = lambda validation: (-validation["loss"],),
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    journal: Journal | None = None,
    title: str = "training",
) -> Fitted:
    """Trains for a number of epochs, or goes on from the newest checkpoint.

    Args:
      state: logical state at step 0; or, in a run of several stages, that of the stage before.
      feed: takes the steps.
      where: the feed's layout.
      epochs: passes through the training examples.
      validate: variables -> metrics on the validation split, called after every epoch; None for no validation.
      better: validation metrics -> score, a tuple that is compared from left to right; the highest is the
        best, the first of equals.
      patience: stop after this many epochs without a better score; None never stops early.
      checkpoints: where states are saved: after an epoch that is the best so far or the last, and after any other
        when `SAVE_SECONDS` have passed; None saves nothing and can't resume.
      checkpoint_every: save after this many steps too, whatever the time.
      log_every: record the training metrics of every such step; None for about 2,000 records a run.
      journal: is told what happens.
      title: of the progress bar.
    Returns: `Fitted`.
    Raises: ValueError for numbers out of range; `Diverged` with the step, after which the checkpoints before it
      are whole; `Stopped` after SIGINT or SIGTERM, with the state saved.
    """
    check_counts(epochs=epochs, patience=patience, checkpoint_every=checkpoint_every, log_every=log_every)
    journal = journal or Journal()
    per_epoch = feed.steps_per_epoch
    total = epochs * per_epoch
    log_every = log_every or max(1, total // 2000)

    restored = checkpoints.restore(state) if checkpoints else None
    progress = _Progress.from_record(restored.record if restored else {})
    step = restored.step if restored else 0
    if restored and step > int(state.step):
        journal.say(f"Resuming after step {step} of {total}.")
    placed = where.place_state(restored.state if restored else state)
    best_variables = None  # kept on the host where no checkpoint holds it
    pending: list[tuple[int, Callable]] = []

    def read_oldest() -> dict[str, np.ndarray]:
        first, read = pending.pop(0)
        rows = read()
        _require_finite(rows, first, checkpoints)
        progress.add(rows)
        count = len(rows["loss"])
        for i in range(-(first + 1) % log_every, count, log_every):
            values = {name: float(row[i]) for name, row in rows.items()}
            journal.record("train", first + i + 1, (first + i + 1) / per_epoch, values)
        journal.progress(first + count, f"loss {rows['loss'][-1]:.3f}")
        return rows

    def save() -> None:
        if checkpoints:
            logical = where.logical(placed)
            if not _all_finite(logical.params):
                raise _diverged(step, checkpoints)
            journal.flush()
            checkpoints.save(logical, progress.record(), progress.best_step)

    journal.begin(title, step, total)
    try:
        with stop_requested() as stop:
            count, saved_at = 1, time.perf_counter()
            while step < total and not progress.out_of_patience(patience):
                count = min(count, feed.most, per_epoch - step % per_epoch)
                if checkpoint_every:
                    count = min(count, checkpoint_every - step % checkpoint_every)
                began = time.perf_counter()
                placed, read = feed.advance(placed, step, count)
                pending.append((step, read))
                step += count
                if len(pending) > 1:
                    read_oldest()
                # One call behind, the time between two calls is that of the slower of device and host.
                seconds = time.perf_counter() - began
                count = next_count(count, seconds)

                epoch_ends, stopping = step % per_epoch == 0, stop()
                saving = stopping or bool(checkpoint_every and step % checkpoint_every == 0)
                if saving or epoch_ends:
                    while pending:
                        read_oldest()
                if epoch_ends:
                    variables = where.logical(placed).variables
                    validation = dict(validate(variables)) if validate else {}
                    improved = progress.end_epoch(step, per_epoch, validation, better)
                    if improved and checkpoints is None:
                        best_variables = jax.tree.map(lambda x: np.array(x, copy=True), variables)
                    if validation:
                        journal.record("validation", step, step / per_epoch, validation)
                    journal.say(_epoch_line(progress.epochs[-1], epochs))
                    saving |= improved or step == total or progress.out_of_patience(patience)
                    saving |= time.perf_counter() - saved_at >= SAVE_SECONDS
                if saving:
                    save()
                    saved_at = time.perf_counter()
                if stopping and step < total:
                    raise Stopped(f"stopped after step {step} of {total}")
    finally:
        if checkpoints:
            checkpoints.wait()
        journal.end()

    last = where.logical(placed)
    if checkpoints and progress.best_step is not None:
        found = checkpoints.restore(state, progress.best_step)
        found = found if found and found.step == progress.best_step else checkpoints.restore(state)
        assert found is not None  # the last state was saved a moment ago
        best_step, best_variables = found.step, found.state.variables
    else:
        best_step = progress.best_step or step
        best_variables = best_variables if best_variables is not None else last.variables
    return Fitted(last, best_variables, best_step, tuple(progress.epochs), step < total)


def check_counts(**counts: int | None) -> None:
    """Raises ValueError unless each number, where there is one, is at least 1."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")


def next_count(count: int, seconds: float) -> int:
    """How many steps the next call should take, where `count` took `seconds`: about `CALL_SECONDS`, at most doubled."""
    return max(1, count * 2 if seconds < CALL_SECONDS / 2 else int(count * CALL_SECONDS / seconds))


class _Progress:
    """What the loop must remember beside the state: goes into each checkpoint's record and comes back."""

    def __init__(self, epochs: list, sums: dict[str, float], best_step: int | None, best_score: list[float] | None):
        self.epochs = epochs
        self.best_step = best_step
        self._best_score = best_score
        self._sums = sums  # of the training metrics since the epoch began; "steps" counts them

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> _Progress:
        return cls(
            list(record.get("epochs", [])),
            dict(record.get("sums", {})),
            record.get("best_step"),
            record.get("best_score"),
        )

    def record(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "sums": self._sums,
            "best_step": self.best_step,
            "best_score": self._best_score,
        }

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Adds the metrics of some steps to the running epoch; one by one, so that grouping changes no bit."""
        for values in zip(*rows.values(), strict=True):
            for name, value in zip(rows, values, strict=True):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._sums["steps"] = self._sums.get("steps", 0.0) + 1

    def end_epoch(self, step: int, per_epoch: int, validation: dict[str, float], better: Callable) -> bool:
        """Closes an epoch; whether it is the best so far."""
        steps = self._sums.pop("steps")
        train = {name: value / steps for name, value in self._sums.items()}
        self._sums = {}
        self.epochs.append({"epoch": step // per_epoch, "step": step, "train": train, "validation": validation})
        if not validation:
            return False
        score = [float(part) for part in better(validation)]
        improved = all(map(math.isfinite, score)) and (self._best_score is None or score > self._best_score)
        if improved:
            self.best_step, self._best_score = step, score
        return improved

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether the last `patience` epochs brought nothing better."""
        if patience is None or self.best_step is None:
            return False
        since = [epoch for epoch in self.epochs if epoch["step"] > self.best_step]
        return len(since) >= patience


def _epoch_line(epoch: Mapping[str, Any], epochs: int) -> str:
    parts = [f"epoch {epoch['epoch']}/{epochs}"]
    for split in ("train", "validation"):
        shown = {name: value for name, value in epoch[split].items() if name in ("loss", "accuracy")}
        parts += [split + " " + ", ".join(f"{name} {value:.4f}" for name, value in shown.items())] if shown else []
    return " · ".join(parts)


def _require_finite(rows: Mapping[str, np.ndarray], first: int, checkpoints: Checkpoints | None) -> None:
    """Raises `Diverged` at the first step whose loss or gradient is not finite."""
    finite = np.isfinite(rows["loss"]) & np.isfinite(rows["gradient_norm"])
    if not finite.all():
        bad = int(np.argmin(finite))
        raise _diverged(first + bad + 1, checkpoints, float(rows["learning_rate"][bad]))


def _diverged(step: int, checkpoints: Checkpoints | None, learning_rate: float | None = None) -> Diverged:
    kept = checkpoints.steps() if checkpoints else []
    rate = f" at learning rate {learning_rate:.3g}" if learning_rate is not None else ""
    last = f"the last good checkpoint is that of step {kept[-1]}" if kept else "there is no checkpoint yet"
    return Diverged(
        f"Training diverged: loss or gradient is not finite in step {step}{rate}; {last}. Try a lower learning rate."
    )


@jax.jit
def _all_finite(tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


@contextmanager
def stop_requested():
    """Yields a function that tells whether SIGINT or SIGTERM came; a second one ends the process as usual."""
    requested = False
    before = {}

    def note(number, frame):
        nonlocal requested
        requested = True
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:
        before.clear()  # not in the main thread, where signals can't be handled
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
