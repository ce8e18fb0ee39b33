"""What does each regularization technique do to the gap between training and test error?

One network on a small training set, all techniques and seeds as one population: dropout, weight decay, augmentation and
MixUp differ from plain training by hyperparameters alone. Early stopping is the plain network at its best validation
loss, test-time augmentation the plain network with augmented copies voting (which it has never seen in training: so the
augmented network with voters is there too); "all" has everything. Answer:
figures/regularization.png and table.csv, means and standard deviations over the seeds, in the order of the test error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .. import data, lab, plots, tasks, train
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """The strengths of dropout, weight decay, augmentation and MixUp are those that their techniques have."""

    # Members differ by their techniques and seeds, and examples are mixed by MixUp.
    REMOVED: ClassVar[Mapping[str, Any]] = {**lab.NO_GRID, "parallel": "jit", "cutmix": 0.0}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    train_size: Annotated[int, lab.COUNT] = 200
    """Number of training examples."""
    mixup: Annotated[float, lab.POSITIVE] = 0.4
    """Parameter α of MixUp's beta distribution, such as 0.4."""
    model: lab.ModelOptions = lab.ModelOptions("convnet")
    drops: lab.DropOptions = lab.DropOptions(dropout=0.5)
    weights: lab.WeightsOptions = lab.WeightsOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions(shift=1, rotate=10.0, zoom=0.1)
    views: lab.ViewOptions = lab.ViewOptions(8)
    batch: lab.BatchOptions = lab.BatchOptions(batch_size=50)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=5e-3)
    rate: lab.RateOptions = lab.RateOptions(0.03)  # reached after a tenth of the steps and followed by a cosine
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(250)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=5)


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", epochs=3, tta=2, population=lab.SeedsOptions(seeds=2)),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        train_size=5000,
        model="wrn16_4",
        epochs=200,
        learning_rate=0.1,
        batch_size=128,
        dropout=0.3,
        weight_decay=5e-4,
        mixup=1.0,
        augmentation=lab.AugmentationOptions(shift=4, flip=True, cutout=8),
    ),
}
COLUMNS = ("technique", "seed", "train_error", "validation_error", "test_error")


def main(config: Config) -> lab.Result:
    """Trains the population, measures every technique, tabulates and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        techniques, classifier = settings(config), small_classifier(config)
        training, seeds = classifier.training, range(config.random.seed, config.random.seed + config.population.seeds)
        members = train.Members(
            np.tile(seeds, len(techniques)),
            {
                name: np.repeat([setting[name] for setting in techniques.values()], len(seeds)).astype(np.float64)
                for name in techniques["none"]
            },
        )
        training, schedule = lab.scheduled(training, config.shape.schedule, config.schedule, config.training.epochs)
        trained = lab.fit(
            run,
            training,
            members,
            schedule,
            config.training.epochs,
            population=config.population,
            title=f"{len(members)} members on {config.data.data}",
        )
        trained.require_all()
        rows = measured(classifier, trained, lab.load(config.data, "test"), list(techniques), seeds)
        lab.write_csv(run.folder / "table.csv", COLUMNS, rows)
        values, claims = conclude(run.folder)
        return run.finish(values | training.report_start(), draw(run.folder), claims)


def settings(config: Config) -> dict[str, dict[str, float]]:
    """technique -> its hyperparameters: plain training, one technique at a time, all together.

    Raises: InputError for a strength that is 0, where there would be nothing to see.
    """
    plain = {"learning_rate": config.rate.learning_rate, "momentum": config.update.momentum}
    plain |= dict.fromkeys(("dropout", "weight_decay", "augment", "mixup"), 0.0)
    strengths = {
        "dropout": {"dropout": config.drops.dropout or 0.0},
        "weight decay": {"weight_decay": config.update.weight_decay},
        "augmentation": {"augment": 1.0},
        "MixUp": {"mixup": config.mixup},
    }
    for name, values in strengths.items():
        for value in values.values():
            if not value > 0:
                raise InputError(f"The strength of {name} is {value:g}; give one above 0 to see its effect.")
    every = {name: value for values in strengths.values() for name, value in values.items()}
    return {"none": plain} | {name: plain | values for name, values in strengths.items()} | {"all": plain | every}


def small_classifier(config: Config) -> lab.Classifier:
    """The network with a small training split, and with everything regularizing read from the hyperparameters.

    Raises: InputError if nothing augments, or no copies vote.
    """
    classifier = lab.classification(
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
        copies=config.views.tta,
        accumulate=config.accumulation.accumulate,
        weights=config.weights.weights,
    )
    source = classifier.training.source
    change, shape = lab.of_images(config.augmentation, source), source.element_spec["image"].shape
    if change is None or not config.views.tta:
        raise InputError("Augmentation and test-time augmentation need --shift, --rotate or another, and --tta.")

    def augmented(key, batch, hyper):
        image_key, mix_key = jax.random.split(key)
        changed = jnp.where(hyper["augment"] > 0, change(image_key, batch)["image"], batch["image"])
        batch = {**batch, "image": changed}
        return data.mixing.mixup(mix_key, batch, alpha=hyper["mixup"], num_classes=len(source.classes))

    small = data.subset(source, config.train_size)
    task = tasks.classification(
        classifier.model,
        shape,
        preprocess=classifier.preprocess,
        label_smoothing=config.loss.label_smoothing,
        class_weights=lab.weights_of_classes(config.loss.class_weights, small),
        traced_fields=("dropout",),
    )
    return replace(classifier, training=replace(classifier.training, source=small, task=task, augment=augmented))


def measured(
    classifier: lab.Classifier, trained: lab.Trained, test: data.Source, techniques: list[str], seeds: range
) -> Iterator[tuple]:
    """Rows of table.csv: the errors of every technique and seed; the test split is read once for each technique."""
    training, fitted = classifier.training, trained.fitted
    splits = {"train": training.source, "validation": training.validation, "test": test}

    def errors(variables, voting: bool) -> Mapping[str, np.ndarray]:
        task = classifier.test_task if voting else None  # None is the task that was trained
        accuracies = {name: trained.measure(variables, split, task)["accuracy"] for name, split in splits.items()}
        return {name: (1 - accuracy).reshape(len(techniques), len(seeds)) for name, accuracy in accuracies.items()}

    last, best = fitted.state.variables, fitted.best
    at_end, stopped, voted, both = errors(last, False), errors(best, False), errors(last, True), errors(best, True)
    table = {name: (at_end, i) for i, name in enumerate(techniques) if name != "all"}
    table |= {
        "early stopping": (stopped, 0),
        "test-time augmentation": (voted, 0),
        "augmentation in both": (voted, techniques.index("augmentation")),
        "all": (both, techniques.index("all")),
    }
    for name, (of_split, row) in table.items():
        for column, seed in enumerate(seeds):
            yield (name, seed, *(of_split[split][row, column] for split in splits))


def conclude(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """The numbers and claims of table.csv."""
    values = {}
    for technique, errors in by_technique(folder).items():
        name = technique.replace(" ", "_").replace("-", "_")
        for split, each in errors.items():
            values |= {f"{name}_{split}_error": float(each.mean()), f"{name}_{split}_error_std": float(each.std())}
    ratio = values["all_test_error"] / values["none_test_error"]
    gaps = {name: values[f"{name}_test_error"] - values[f"{name}_train_error"] for name in ("none", "all")}
    return values, [
        lab.Claim("test error, all techniques over none", ratio, "< 0.9", ratio < 0.9),
        lab.Claim(
            "gap between test and training error, all minus none",
            gaps["all"] - gaps["none"],
            "< 0",
            gaps["all"] < gaps["none"],
        ),
    ]


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from table.csv."""
    errors = by_technique(folder)
    splits = {"training": "train", "test": "test"}
    return {
        "regularization": plots.gaps(
            {name: {label: 100 * each[split] for label, split in splits.items()} for name, each in errors.items()}
        )
    }


def by_technique(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """technique -> split -> errors [seeds]."""
    table = lab.read_csv(folder / "table.csv")
    return {
        name: {split: table[f"{split}_error"][table["technique"] == name] for split in ("train", "validation", "test")}
        for name in dict.fromkeys(table["technique"].tolist())
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
