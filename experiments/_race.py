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
from ._classification import Problem, fit_members
from ._population import read_csv, write_csv
from ._run import Result, Run

COLUMNS = ("seed", "learning_rate", "validation_accuracy", "train_loss", "test_loss", "test_accuracy")


def race(
    run: Run,
    entrants: Mapping[str, tuple[Problem, Callable]],
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
    for name, (problem, schedule) in entrants.items():
        part = run.part(name)
        if (part.folder / "race.csv").exists():
            continue
        run.journal.say(f"{name} …")
        trained = fit_members(
            part, problem, schedule, 0.0, epochs, name="members",
            better=lambda validation: (validation["accuracy"], -validation["loss"]),
        )  # fmt: skip
        rows = trained.chosen_rows()
        test, fitted = trained.test(rows), trained.fitted
        curves = [
            (name, seed, epoch["epoch"], epoch["train"]["loss"][i], epoch["validation"]["loss"][i])
            for i, seed in zip(range(rows.start, rows.stop), trained.members.seeds[rows], strict=True)
            for epoch in fitted.epochs
        ]
        write_csv(part.folder / "curves.csv", ("entrant", "seed", "epoch", "train_loss", "validation_loss"), curves)
        columns = (
            trained.members.seeds[rows],
            trained.members.hyper["learning_rate"][rows],
            fitted.at_best("validation", "accuracy")[rows],
            fitted.at_best("train", "loss")[rows],
            test["loss"],
            test["accuracy"],
        )
        write_csv(part.folder / "race.csv", COLUMNS, zip(*columns, strict=True))
    values, rows = {}, []
    for name in entrants:
        table = read_csv(run.folder / name / "race.csv")
        rows += [(name, *row) for row in zip(*table.values(), strict=True)]
        values |= {
            f"{name}_test_accuracy": float(table["test_accuracy"].mean()),
            f"{name}_test_accuracy_std": float(table["test_accuracy"].std()),
            f"{name}_learning_rate": float(table["learning_rate"][0]),
        }
    write_csv(run.folder / "race.csv", ("entrant", *COLUMNS), rows)
    return run.finish(values, draw(run.folder))


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
