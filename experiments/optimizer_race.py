"""Which optimizer is best, each at its own best learning rate?

Every optimizer of the lecture, and two of second order, trains the same network on the same task with warm-up and
cosine decay; each one's rate is chosen on validation data from a grid, all rates and seeds at once. Answer:
figures/race.png and result.json; race.csv has the numbers. Epochs count, not time: Newton-CG and Shampoo pay more for a
step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from .. import lab, train


@dataclass(frozen=True)
class Config:
    """Budget; --population.learning-rate is the grid."""

    # Every entrant is an optimizer, and a population has one layout.
    REMOVED: ClassVar[Mapping[str, Any]] = {"optimizer": ..., "parallel": "jit"}

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
    update: lab.UpdateOptions = lab.UpdateOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(12)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=3)
    grid: lab.GridOptions = lab.GridOptions("2**-12:2**1")  # wide enough for the rates of SGD and of Adam
    only: Annotated[tuple[str, ...], lab.OptimizerName("optimizer", train.OPTIMIZERS), lab.DISTINCT] = ()
    """Names of the optimizers that race, such as sgd adam optax:lion; by default all but optax's."""


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        epochs=2,
        only=("sgd", "adam"),
        grid=lab.GridOptions("2**-8:2**-2:3"),
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
        grid=lab.GridOptions("2**-14:2**1"),
        population=lab.SeedsOptions(seeds=5),
    ),
}


def main(config: Config) -> lab.Result:
    """Races the optimizers and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        race = lab.Race(run, lab.load(config.data, "test"), config.training.epochs, config.population, config.grid)
        classifier = make_classifier(config)

        def entrant(optimizer):
            make_optimizer = lab.make_optimizer(lab.OptimizerOptions(optimizer), config.update)
            own = replace(classifier, training=replace(classifier.training, make_optimizer=make_optimizer))
            return lab.entrant(own, config.shape.schedule, config.schedule, race.epochs)

        values = race.compare({name: entrant(name) for name in config.only or train.OPTIMIZERS})
        return run.finish(values | classifier.training.report_start(), draw(run.folder))


def make_classifier(config: Config) -> lab.Classifier:
    """The network and its data; every entrant replaces the optimizer."""
    return lab.classification(
        data=config.data,
        model=config.model.model,
        batch=config.batch,
        optimizer=lab.OptimizerOptions(),
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


draw = lab.draw_race


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
