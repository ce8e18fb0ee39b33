"""What `train.fit` ends with, of one run or of a population by the same path, and the table of its members.

`fit` trains with a run's checkpoints, and writes the table:

    trained = fit(run, training, training.members(0.1), schedule, epochs)
    trained.at_best("validation", "accuracy")     # [members]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, tasks, train
from ..errors import InputError
from .options import SeedsOptions
from .run import Run
from .tables import write_csv
from .training import Schedule, Start, Training


@dataclass(frozen=True)
class Trained:
    """A run or a population that was trained."""

    training: Training
    """What was trained."""
    start: Start
    """Who, and where."""
    fitted: train.Fitted
    """How it went: numbers are [members], also of a single run."""
    better: Callable | None
    """Same as `train.fit`; None if there was no validation."""

    @property
    def members(self) -> train.Members:
        """Seeds and hyperparameters."""
        return self.start.members

    def variables(self, tree: Any, number: int) -> tasks.Variables:
        """The variables of one member in those of all (`fitted.best`, `fitted.state.variables`)."""
        return train.member(tree, number) if self.start.layout.shape else tree

    def best_variables(self, rows: slice) -> list[tasks.Variables]:
        """The best variables of each member in some rows."""
        return [self.variables(self.fitted.best, i) for i in range(len(self.members))[rows]]

    def reported_rows(self, population: SeedsOptions | None) -> slice:
        """The members whose numbers are reported: of a population `chosen_rows`, else the one that there is."""
        return slice(0, 1) if population is None else self.chosen_rows(population.seeds)

    def require_all(self) -> None:
        """Raises `train.Diverged` if a member diverged, where the numbers of all enter the result."""
        gone = self.fitted.diverged_at[self.fitted.diverged_at >= 0]
        if len(gone):
            raise train.Diverged(
                f"{len(gone)} of {len(self.members)} members diverged, the first in step {gone.min() + 1}. "
                "Give a lower learning rate."
            )

    def chosen_rows(self, seeds: int) -> slice:
        """The members (one per seed) of the hyperparameters whose mean validation metrics are best.

        Args:
          seeds: number of seeds of each setting.
        Raises: InputError if there are several settings and no validation; `train.Diverged` if a seed of each diverged,
          at any time: means over what it was before would say nothing of the setting.
        """
        if self.better is None:
            if len(self.members) > seeds:
                raise InputError("Nothing here can be chosen on validation data; give one setting, and seeds alone.")
            self.require_all()
            return slice(0, seeds)
        if len(self.members) == seeds:
            self.require_all()
        means = {
            name: self.at_best("validation", name).reshape(-1, seeds).mean(1)
            for name in self.fitted.epochs[-1]["validation"]
        }
        scores = list(zip(*(np.broadcast_to(part, len(means["loss"])) for part in self.better(means)), strict=True))
        last = np.atleast_1d(self.fitted.diverged_at).reshape(-1, seeds).max(1)  # step of a divergence, −1 for none
        usable = [i for i, score in enumerate(scores) if np.isfinite(score).all() and last[i] < 0]
        if not usable:
            raise train.Diverged("A seed of every setting diverged. Give lower learning rates.")
        best = max(usable, key=lambda i: scores[i])
        return slice(best * seeds, (best + 1) * seeds)

    def at_best(self, split: str, metric: str) -> np.ndarray:
        """[members]: a metric of each member's best epoch."""
        return np.atleast_1d(self.fitted.at_best(split, metric))

    def epochs(self) -> Iterator[Mapping[str, Any]]:
        """The records of `fitted.epochs`, with numbers [members]."""
        for epoch in self.fitted.epochs:
            splits = ("train", "validation")
            yield dict(epoch) | {s: {name: np.atleast_1d(x) for name, x in epoch[s].items()} for s in splits}

    def measure(self, variables: Any, source: data.Source, task: tasks.Task | None = None) -> dict[str, np.ndarray]:
        """{metric: [members]} of everybody's variables on a split, by the training's task or another one."""
        layout = self.start.layout
        found = self.training.evaluator(source, layout, task)(layout.place_variables(variables))
        return {name: np.atleast_1d(value) for name, value in found.items()}


def fit(
    run: Run,
    training: Training,
    members: train.Members,
    make_schedule: Schedule,
    epochs: int,
    *,
    population: SeedsOptions | None = None,
    better: Callable | None = lambda validation: (-validation["loss"],),
    ema_decay: float | None = None,
    table: str = "members",
    title: str = "training",
    stages: Sequence[int] = (),
    look: Callable[[int, Trained], None] = lambda epoch, trained: None,
    **options: Any,
) -> Trained:
    """Trains a run or a population with the run's checkpoints, and writes a table of its members.

    Args:
      run: open.
      training: what is trained.
      members: from `Training.members`.
      make_schedule: hyper -> (step -> learning rate).
      epochs: number of passes through the training split.
      population: same as `Training.start`.
      better: same as `train.fit`; None for no validation, and the last variables.
      ema_decay: same as `Training.start`.
      table: name of the table of members.
      title: title of the progress bar.
      stages: epochs before the last after which to look, ascending.
      look: called with the epoch after each stage, and after the last.
      options: other arguments of `train.fit`, such as patience.
    """
    run.display.note("setting up …" if population is None else "setting up, and trying where members run fastest …")
    start = training.start(
        members,
        make_schedule,
        training.steps(epochs),
        population=population,
        file=run.folder / "placement.json",
        ema_decay=ema_decay,
    )
    if better is not None:
        options |= {"better": better, "validate": training.evaluator(training.validation, start.layout)}
    run.introduce(start.num_parameters)
    if training.saved is not None:
        training.saved.write(run.folder)
        training.saved.announce(run.note)
    state, trained = start.state, None
    for stage in (*stages, epochs):
        fitted = train.fit(
            state,
            start.feed,
            start.layout,
            epochs=stage,
            checkpoints=run.checkpoints(),
            journal=run.journal,
            log_every=max(1, training.steps(epochs) // 2000),
            title=title,
            **options,
        )
        state, trained = fitted.state, Trained(training, start, fitted, better)
        run.display.doing("evaluating …")
        look(stage, trained)
    assert trained is not None
    write_members(run.folder / f"{table}.csv", trained)
    if training.saved is not None:
        training.saved.finish(run.folder, trained.fitted.epochs[-1]["step"], start.members.seeds)
    return trained


def write_members(path: Path, trained: Trained) -> None:
    """A row per member: seed, hyperparameters, best epoch, divergence, and its metrics after the last epoch."""
    fitted, members = trained.fitted, trained.members
    columns = {"seed": members.seeds, **members.hyper, "best_epoch": np.atleast_1d(fitted.best_epoch)}
    columns |= {"diverged_at": np.atleast_1d(fitted.diverged_at)}
    for split in ("train", "validation"):
        columns |= {f"{split}_{name}": np.atleast_1d(values) for name, values in fitted.epochs[-1][split].items()}
        columns |= {f"best_{split}_{name}": trained.at_best(split, name) for name in fitted.epochs[-1][split]}
    write_csv(path, list(columns), zip(*columns.values(), strict=True))
