"""Populations of a problem: trained with checkpoints, the best setting chosen on validation data, its seeds tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .. import train
from ._population import write_members
from ._problem import EVALUATION_BATCH, Problem, load
from ._run import Run


@dataclass(frozen=True)
class Trained:
    """A population that was trained on a problem. better: as of `train.fit`, None if there was no validation."""

    problem: Problem
    members: train.Members
    where: train.PopulationLayout
    fitted: train.PopulationFitted
    better: Callable | None

    def require_all(self) -> None:
        """Raises `train.Diverged` if a member did, where all are compared and none is chosen."""
        diverged_at = self.fitted.diverged_at
        gone = diverged_at[diverged_at >= 0]
        if len(gone):
            raise train.Diverged(
                f"{len(gone)} of {len(self.members)} members diverged, the first in step {gone.min() + 1}. "
                "Give a lower learning rate."
            )

    def chosen_rows(self) -> slice:
        """The members (one per seed) of the hyperparameters whose mean validation metrics are best.

        Raises: ValueError if there are several settings and no validation; `train.Diverged` if a seed of each did.
        """
        seeds = self.problem.config.population.seeds
        if self.better is None:
            if len(self.members) > seeds:
                raise ValueError("Nothing here can be chosen on validation data; give one setting, and seeds alone.")
            return slice(0, seeds)
        means = {
            name: self.fitted.at_best("validation", name).reshape(-1, seeds).mean(1)
            for name in self.fitted.epochs[-1]["validation"]
        }
        scores = list(zip(*(np.broadcast_to(part, len(means["loss"])) for part in self.better(means)), strict=True))
        usable = [i for i, score in enumerate(scores) if np.isfinite(score).all()]
        if not usable:
            raise train.Diverged("A seed of every setting diverged. Give lower learning rates.")
        best = max(usable, key=lambda i: scores[i])
        return slice(best * seeds, (best + 1) * seeds)

    def test(self, rows: slice) -> dict[str, np.ndarray]:
        """The best checkpoints of some members on the test split: {metric: [rows]}."""
        source = load(self.problem.config, "test")
        task = self.problem.test_task()
        evaluate = train.population_evaluator(task, source, self.where, batch_size=EVALUATION_BATCH)
        return {name: x[rows] for name, x in evaluate(self.where.place(self.fitted.best)).items()}


def fit_members(
    run: Run,
    problem: Problem,
    members: train.Members,
    make_schedule: Callable,
    epochs: int,
    *,
    name: str,
    ema_decay: float | None = None,
    better: Callable | None,
    stops: Sequence[int] = (),
    look: Callable[[int, train.PopulationFitted], None] = lambda epoch, fitted: None,
) -> Trained:
    """Trains a population, with checkpoints, and writes what each member came to.

    Args:
      run: open.
      problem: what to train on.
      members: seeds and hyperparameters, as `Problem.members` gives them.
      make_schedule: hyper -> (step -> learning rate).
      epochs: passes through the training split.
      name: of the table, `<name>.csv`.
      ema_decay: as of `Problem.feed`.
      better: as of `train.fit`; None for no validation, and the last variables.
      stops: epochs before the last after which to look, ascending.
      look: what to do then, and after the last.
    """
    config = problem.config
    population = problem.population(
        members, make_schedule, problem.steps(epochs), run.folder / "placement.json", ema_decay=ema_decay
    )  # fmt: skip
    where, choice = population.where, {}
    if better is not None:
        validate = train.population_evaluator(
            problem.task, problem.validation, where, batch_size=EVALUATION_BATCH, resident=config.resident
        )
        choice = {"validate": validate, "better": better}
    fitted = None
    for stop in (*stops, epochs):
        fitted = train.fit_population(
            fitted.last if fitted else population.initial, population.feed, where, epochs=stop,
            checkpoints=run.checkpoints(), journal=run.journal, title=f"{len(members)} members on {config.data}",
            **choice,
        )  # fmt: skip
        look(stop, fitted)
    assert fitted is not None
    write_members(run.folder / f"{name}.csv", members, fitted)
    return Trained(problem, members, where, fitted, better)
