"""Which learning-rate schedule is best, each at its own best peak rate?

All schedules of the lecture train the same network on the same task; each one's peak rate is chosen on validation data
from a grid, all rates and seeds of a schedule at once. Answer: figures/race.png and result.json; figures/gallery.png
shows the schedules, as the slide does. race.csv has the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import optax
from matplotlib.figure import Figure

from .. import lab, plots, schedules, train


def named(total: int, epoch: int) -> dict[str, Callable[[Any], optax.Schedule]]:
    """Name -> (peak rate -> schedule) for a run of `total` steps, `epoch` of them an epoch."""
    warm = max(1, total // 10)
    return {
        "constant": schedules.constant,
        "step": lambda peak: schedules.step_decay(peak, 0.1, max(1, total // 3)),
        "exponential": lambda peak: schedules.exponential_decay(peak, 0.02 ** (epoch / total), epoch, staircase=True),
        "linear": lambda peak: schedules.linear_decay(peak, total),
        "cosine": lambda peak: schedules.cosine_decay(peak, total),
        "warmup_linear": lambda peak: schedules.warmup(schedules.linear_decay(peak, total - warm), warm),
        "warmup_cosine": lambda peak: schedules.warmup_cosine(peak, warm, total),
        "cosine_restarts": lambda peak: schedules.cosine_restarts(peak, -(-total // 7), 2),
        "triangular": lambda peak: schedules.triangular(0.0, peak, max(1, total // 6)),
        "triangular2": lambda peak: schedules.triangular2(0.0, peak, max(1, total // 6)),
        "one_cycle": lambda peak: schedules.one_cycle(peak, max(1, int(0.3 * total)), total),
        "inverse_time": lambda peak: schedules.inverse_time(peak, max(1, total // 20)),
        "inverse_sqrt": lambda peak: schedules.inverse_sqrt(peak, max(1, total // 20)),
    }


SCHEDULES = (*named(1, 1), "plateau")


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
    only: Annotated[tuple[str, ...], lab.Choice("schedule", SCHEDULES)] = ()
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
        steps = classifier.training.steps(1)
        entrants = {
            name: (classifier, lambda hyper, make=make: make(hyper["learning_rate"]))
            for name, make in named(race.epochs * steps, steps).items()
        }
        entrants["plateau"] = slowed_on_plateaus(classifier, steps), entrants["constant"][1]
        values = race.compare({name: entrants[name] for name in config.only or entrants})
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
        dtype=config.precision.dtype,
        augmentation=config.augmentation,
        mixing=config.mixing,
        copies=config.views.tta,
        accumulate=config.accumulation.accumulate,
        weights=config.weights.weights,
        freeze=config.freezing.freeze,
    )


def slowed_on_plateaus(classifier: lab.Classifier, steps: int) -> lab.Classifier:
    """A classifier whose optimizer slows down where the loss of an epoch no longer falls.

    It is the one schedule that depends on more than the step: the rate is constant, and the optimizer's state has the
    factor.
    """
    inner = classifier.training.make_optimizer

    def make_optimizer(learning_rate, hyper):
        return train.reduce_on_plateau(inner(learning_rate, hyper), factor=0.3, patience=1, accumulation_size=steps)

    return replace(classifier, training=replace(classifier.training, make_optimizer=make_optimizer))


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from the tables alone; the gallery from the formulas."""
    steps = np.arange(600)
    rates = {name: np.asarray(make(1.0)(steps)) for name, make in named(600, 50).items()}
    return lab.draw_race(folder) | {"gallery": plots.gallery(steps, rates)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
