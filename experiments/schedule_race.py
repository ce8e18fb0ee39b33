"""Which learning-rate schedule is best, each at its own best peak rate?

All schedules of the lecture train the same network on the same task; each one's peak rate is chosen on validation data
from a grid, all rates and seeds of a schedule at once. Answer: figures/race.png and result.json; figures/gallery.png
shows the schedules, as the slide does. race.csv has the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from .. import lab, plots


@dataclass(frozen=True)
class Config:
    """Budget; --population.learning-rate is the grid of peak rates."""

    # A population has one layout.
    REMOVED: ClassVar[Mapping[str, Any]] = {"parallel": "jit"}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    model: lab.ModelOptions = lab.ModelOptions("mlp")
    drops: lab.DropOptions = lab.DropOptions()
    weights: lab.WeightsOptions = lab.WeightsOptions()
    freezing: lab.FreezeOptions = lab.FreezeOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions()
    mixing: lab.MixingOptions = lab.MixingOptions()
    views: lab.ViewOptions = lab.ViewOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(12)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=4)
    grid: lab.GridOptions = lab.GridOptions("2**-8:2**-1")
    only: Annotated[tuple[str, ...], lab.Choice("schedule", lab.SCHEDULE_NAMES), lab.DISTINCT] = ()
    """Names of the schedules that race, such as constant cosine; by default all."""


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        epochs=3,
        only=("constant", "cosine", "plateau"),
        grid=lab.GridOptions("2**-5:2**-3"),
        population=lab.SeedsOptions(seeds=2),
    ),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        model="resnet20",
        epochs=100,
        batch_size=128,
        flip=True,
        grid=lab.GridOptions("2**-9:2**0"),
        population=lab.SeedsOptions(seeds=5),
    ),
}


def main(config: Config) -> lab.Result:
    """Races the schedules and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        race = lab.Race(run, lab.load(config.data, "test"), config.training.epochs, config.population, config.grid)
        classifier = make_classifier(config)
        names = config.only or lab.SCHEDULE_NAMES
        entrants = {name: lab.entrant(classifier, name, lab.ScheduleOptions(), race.epochs) for name in names}
        values = race.compare(entrants)
        return run.finish(values | classifier.training.report_start(), draw(run.folder))


def make_classifier(config: Config) -> lab.Classifier:
    """The network and its data."""
    return lab.classification(
        data=config.data,
        model=config.model.model,
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        drops=config.drops,
        label_smoothing=config.loss.label_smoothing,
        class_weights=config.loss.class_weights,
        dtype=config.precision.dtype,
        augmentation=config.augmentation,
        mixing=config.mixing,
        copies=config.views.tta,
        accumulate=config.accumulation.accumulate,
        weights=config.weights.weights,
        freeze=config.freezing.freeze,
    )


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from the tables alone; the gallery from the formulas."""
    steps = np.arange(600)
    rates = {
        name: np.asarray(lab.schedule_of(name, lab.ScheduleOptions(), 600, 50)({"learning_rate": 1.0})(steps))
        for name in lab.SCHEDULE_NAMES
        if name != "plateau"  # it depends on more than the step
    }
    return lab.draw_race(folder) | {"gallery": plots.gallery(steps, rates)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
