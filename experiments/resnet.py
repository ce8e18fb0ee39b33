"""Train a residual network: a range test picks the rate, validation picks the checkpoint, the test is read once.

He et al. 2015, section 4.2, at any scale. A learning-rate range test chooses the peak rate; the network trains with
linear warm-up and cosine decay; the checkpoint of the best validation accuracy is evaluated once on the held-out test
split. Answer: result.json's "test_accuracy"; figures/confusion_matrix.png shows where it errs. With
--population.learning-rate or --population.seeds, many runs train at once; the rates are compared on validation data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .. import lab


@dataclass(frozen=True)
class Config:
    """Any convolutional network by its name."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    model: lab.ModelOptions = lab.ModelOptions()
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
    rate: lab.RangeTestOptions = lab.RangeTestOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions()
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", epochs=2, range_steps_per_decade=12),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        model="resnet110",
        epochs=164,
        batch_size=128,
        learning_rate=0.1,
        weight_decay=1e-4,
        shift=4,
        flip=True,
        checkpoint_every=1000,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    return train_classifier("resnet", config, PRESETS)


def train_classifier(experiment: str, config: Config, presets: dict[str, Config]) -> lab.Result:
    """The whole training of one classifier, or of a population of them."""
    with lab.open_run(experiment, config, presets) as run:
        if run.result:
            return run.result
        classifier = lab.classification(
            data=config.data,
            model=config.model.model,
            batch=config.batch,
            optimizer=config.optimizer,
            update=config.update,
            seed=config.random.seed,
            drops=config.drops,
            dtype=config.precision.dtype,
            label_smoothing=config.loss.label_smoothing,
            class_weights=config.loss.class_weights,
            augmentation=config.augmentation,
            mixing=config.mixing,
            copies=config.views.tta,
            layout=config.layout,
            accumulate=config.accumulation.accumulate,
            weights=config.weights.weights,
            freeze=config.freezing.freeze,
        )
        training, epochs = classifier.training, config.training.epochs
        population = lab.population_of(config.population, config.grid, config.layout)
        training, schedule = lab.scheduled(training, config.shape.schedule, config.schedule, epochs)
        peak, figures = lab.choose_rate(run, classifier.training, config.rate, config.population, config.grid)

        trained = lab.fit(
            run,
            training,
            training.members(peak, config.population, config.grid),
            schedule,
            epochs,
            population=population,
            better=lab.more_accurate,
            ema_decay=config.averaging.ema_decay,
            title=f"{config.model.model} on {config.data.data}",
            patience=config.stopping.patience,
            checkpoint_every=config.stopping.checkpoint_every,
        )
        test = lab.load(config.data, "test")
        values, drawn, classes = lab.report_classifier(classifier, trained, test, schedule, population)
        return run.finish(values, figures | drawn, classes=classes)


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
