"""What races have in common: every entrant trains a grid of learning rates × seeds and is judged at its own best one.

The best rate is chosen on validation data; the test split is read once, with the seeds of that rate. An entrant is a
problem and a schedule; whichever of the two the race is about differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ._classification import ClassificationProblem
from ._members import fit_members
from ._population import read_csv, write_csv
from ._run import Result, Run

COLUMNS = ("seed", "learning_rate", "validation_accuracy", "train_loss", "test_loss", "test_accuracy")


def race(
    run: Run,
    entrants: Mapping[str, tuple[ClassificationProblem, Callable]],
    epochs: int,
    *,
    draw: Callable[[Path], dict[str, Figure]] = lambda folder: draw_race(folder),
) -> Result:
    """Trains all entrants, one population after another; what was trained is not trained again.

    Args:
      run: open.
      entrants: name -> (problem, hyper -> (step -> learning rate)).
      epochs: passes through the training split, of every member.
      draw: run folder -> figures.
    Returns: the finished run's result: of each entrant `<name>_test_accuracy`, its `_std` over the seeds
      and `<name>_learning_rate`.
    """
    values, rows = {}, []
    for name, (problem, schedule) in entrants.items():
        table = train_entrant(run, name, problem, schedule, epochs)
        rows += [(name, *row) for row in zip(*table.values(), strict=True)]
        values |= {
            f"{name}_test_accuracy": float(table["test_accuracy"].mean()),
            f"{name}_test_accuracy_std": float(table["test_accuracy"].std()),
            f"{name}_learning_rate": float(table["learning_rate"][0]),
        }
    write_csv(run.folder / "race.csv", ("entrant", *COLUMNS), rows)
    return run.finish(values, draw(run.folder))


def train_entrant(
    run: Run, name: str, problem: ClassificationProblem, schedule: Callable, epochs: int
) -> dict[str, np.ndarray]:
    """What each seed of an entrant came to at its best learning rate. Trains, unless an earlier start did.

    Args:
      run: open; the entrant gets a folder in it, with race.csv and, of every epoch, curves.csv.
      name: of the entrant.
      problem: what to train on.
      schedule: hyper -> (step -> learning rate).
      epochs: passes through the training split, of every member.
    Returns: `COLUMNS` -> [seeds], at the best checkpoint; the train loss is the mean over its epoch.
    Raises: ValueError if the problem's config has no grid of rates.
    """
    if problem.config.population.learning_rate is None:
        raise ValueError("There are no learning rates to choose from; give --population.learning-rate 2**-8:2**-1.")
    part = run.part(name)
    if not (part.folder / "race.csv").exists():
        run.journal.say(f"{name} …")
        trained = fit_members(
            part, problem, problem.members(0.0), schedule, epochs, name="members",
            better=lambda validation: (validation["accuracy"], -validation["loss"]),
        )  # fmt: skip
        rows = trained.chosen_rows()
        test, fitted = trained.test(rows), trained.fitted
        curves = [
            (seed, epoch["epoch"], epoch["train"]["loss"][i], epoch["validation"]["loss"][i])
            for i, seed in zip(range(rows.start, rows.stop), trained.members.seeds[rows], strict=True)
            for epoch in fitted.epochs
        ]
        write_csv(part.folder / "curves.csv", ("seed", "epoch", "train_loss", "validation_loss"), curves)
        columns = (
            trained.members.seeds[rows],
            trained.members.hyper["learning_rate"][rows],
            fitted.at_best("validation", "accuracy")[rows],
            fitted.at_best("train", "loss")[rows],
            test["loss"],
            test["accuracy"],
        )
        write_csv(part.folder / "race.csv", COLUMNS, zip(*columns, strict=True))
    return read_csv(part.folder / "race.csv")


def draw_race(folder: Path) -> dict[str, Figure]:
    """The figure, from the tables of the entrants alone."""
    names = list(dict.fromkeys(read_csv(folder / "race.csv")["entrant"].tolist()))
    errors, rates, curves = {}, {}, {}
    for name in names:
        part = folder / name
        table, curve = read_csv(part / "race.csv"), read_csv(part / "curves.csv")
        errors[name] = 100 * (1 - table["test_accuracy"])
        rates[name] = float(table["learning_rate"][0])
        epochs = np.unique(curve["epoch"])
        losses = np.stack([curve["validation_loss"][curve["epoch"] == epoch] for epoch in epochs])
        curves[name] = epochs, losses
    return {"race": plots.race(errors, rates, curves)}
