"""Races: every entrant trains a grid of learning rates × seeds and is judged at its own best learning rate.

The best rate is chosen on validation data; the test split is read once, with the seeds of that rate. An entrant is a
classifier and a schedule; whichever of the two the race is about differs.

    race = Race(run, load(config.data, "test"), epochs, config.population, config.grid)
    values = race.compare({"cosine": (classifier, lambda hyper: cosine_decay(hyper["learning_rate"], steps)), …})
    return run.finish(values, draw_race(run.folder))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import data, plots
from ..errors import InputError
from .classifier import Classifier, more_accurate
from .options import GridOptions, ScheduleOptions, SeedsOptions
from .rates import scheduled
from .run import Run
from .tables import read_csv, write_csv
from .trained import fit
from .training import Schedule

COLUMNS = ("seed", "learning_rate", "validation_accuracy", "train_loss", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Race:
    """What all entrants have in common.

    Raises: InputError if there is no grid of learning rates.
    """

    run: Run
    """The open run; each entrant gets a folder in it."""
    test: data.Source
    """The test split."""
    epochs: int
    """Number of passes through the training split, of every member."""
    population: SeedsOptions
    """Number of seeds, and how members are laid out."""
    grid: GridOptions
    """Learning rates that every entrant tries."""

    def __post_init__(self):
        if self.grid.learning_rate is None:
            raise InputError(
                "There are no learning rates to choose from; give --population.learning-rate, such as 2**-8:2**-1."
            )

    def compare(self, entrants: Mapping[str, tuple[Classifier, Schedule]]) -> dict[str, float]:
        """Trains all entrants, one population after another, and writes race.csv.

        Args:
          entrants: name -> (classifier, hyper -> (step -> learning rate)).
        Returns: of each entrant `<name>_test_accuracy`, its `_std` over the seeds, and `<name>_learning_rate`.
        """
        values, rows = {}, []
        for name, (classifier, schedule) in entrants.items():
            table = self.train(name, classifier, schedule)
            rows += [(name, *row) for row in zip(*table.values(), strict=True)]
            values |= {
                f"{name}_test_accuracy": float(table["test_accuracy"].mean()),
                f"{name}_test_accuracy_std": float(table["test_accuracy"].std()),
                f"{name}_learning_rate": float(table["learning_rate"][0]),
            }
        write_csv(self.run.folder / "race.csv", ("entrant", *COLUMNS), rows)
        return values

    def train(self, name: str, classifier: Classifier, schedule: Schedule) -> dict[str, np.ndarray]:
        """Trains one entrant, unless an earlier start of the run did.

        Args:
          name: the entrant's; its folder gets race.csv and, with a row for each epoch, curves.csv.
          classifier: what is trained.
          schedule: hyper -> (step -> learning rate).
        Returns: `COLUMNS` -> [seeds], at the best checkpoint of each seed of the best learning rate; the training loss
          is the mean over the checkpoint's epoch.
        Raises: `train.Diverged` if a seed of every learning rate diverged.
        """
        part = self.run.part(name)
        if not (part.folder / "race.csv").exists():
            self.run.display.say(f"{name} …")
            training = classifier.training
            members = training.members(1.0, self.population, self.grid)  # every member has a rate of the grid
            trained = fit(
                part,
                training,
                members,
                schedule,
                self.epochs,
                population=self.population,
                better=more_accurate,
                title=f"{len(members)} members on {training.source.name}",
            )
            rows = trained.chosen_rows(self.population.seeds)
            test = trained.measure(trained.fitted.best, self.test, classifier.test_task)
            seeds = members.seeds[rows]
            curves = [
                (seed, epoch["epoch"], epoch["train"]["loss"][i], epoch["validation"]["loss"][i])
                for i, seed in zip(range(rows.start, rows.stop), seeds, strict=True)
                for epoch in trained.epochs()
            ]
            write_csv(part.folder / "curves.csv", ("seed", "epoch", "train_loss", "validation_loss"), curves)
            columns = (
                seeds,
                members.hyper["learning_rate"][rows],
                trained.at_best("validation", "accuracy")[rows],
                trained.at_best("train", "loss")[rows],
                test["loss"][rows],
                test["accuracy"][rows],
            )
            write_csv(part.folder / "race.csv", COLUMNS, zip(*columns, strict=True))
        return read_csv(part.folder / "race.csv")


def entrant(classifier: Classifier, name: str, options: ScheduleOptions, epochs: int) -> tuple[Classifier, Schedule]:
    """A classifier under the schedule of a name. Arguments: same as `scheduled`."""
    training, schedule = scheduled(classifier.training, name, options, epochs)
    return replace(classifier, training=training), schedule


def draw_race(folder: Path) -> dict[str, plots.Figure]:
    """The figure of a race, from the tables in the run's folder alone."""
    errors, rates, curves = {}, {}, {}
    for name in dict.fromkeys(read_csv(folder / "race.csv")["entrant"].tolist()):
        table, curve = (read_csv(folder / name / f"{file}.csv") for file in ("race", "curves"))
        errors[name] = 100 * (1 - table["test_accuracy"])
        rates[name] = float(table["learning_rate"][0])
        epochs = np.unique(curve["epoch"])
        curves[name] = epochs, np.stack([curve["validation_loss"][curve["epoch"] == epoch] for epoch in epochs])
    return {"race": plots.race(errors, rates, curves)}
