"""Find the objects in images in a single pass: every cell of several grids names an object and its box.

As on the lecture's slide a box is a class and (center x, center y, height, width), answered for by the cell that
contains its center (Redmon et al. 2016; Lin et al. 2017, for the levels and the loss). A learning-rate range test
chooses the peak rate; the checkpoint of the best validation loss is measured once on the held-out test split. Answer:
result.json's "test_map50" and "test_map", COCO's mean average precision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .. import data, lab, plots
from ..errors import InputError

SHOWN = 12  # images of the figure
FUSION = lab.FusionOptions()
Found = Mapping[str, np.ndarray]
Report: TypeAlias = "Callable[[Sequence[Found], data.Source], tuple[dict[str, float], dict[str, plots.Figure]]]"


@dataclass(frozen=True)
class NetworkOptions:
    """Which network finds the objects."""

    TITLE: ClassVar[str] = "model"

    model: str = "grid_detector"
    """Name of the network; etude models lists all, with the role detector."""


@dataclass(frozen=True)
class Config:
    """Any detector by its name."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions("scenes")
    network: NetworkOptions = NetworkOptions()
    assignment: lab.AssignmentOptions = lab.AssignmentOptions()
    augmentation: lab.AnnotatedOptions = lab.AnnotatedOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions()
    rate: lab.RangeTestOptions = lab.RangeTestOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=12)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    finding: lab.FindingOptions = lab.FindingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO_OPTIONS: dict[str, Any] = {"batch_size": 16, "epochs": 6}
SMOKE_OPTIONS: dict[str, Any] = {"data": "scenes:32", "epochs": 1, "learning_rate": 1e-3}
PAPER_OPTIONS: dict[str, Any] = {
    "data": "scenes:256",
    "batch_size": 16,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "flip": True,
}
DEMO = lab.override(Config(), **DEMO_OPTIONS)
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", **SMOKE_OPTIONS),
    "demo": DEMO,
    "paper": lab.override(Config(), preset="paper", **PAPER_OPTIONS),  # RetinaNet's, Lin et al. 2017
    "bccd": lab.override(
        Config(),
        preset="bccd",
        data="voc:BCCD",  # docs/dense_prediction.md says where it is from
        image_size=224,
        flip=True,
        turn=True,
        zoom=0.2,
        most_objects=100,
        batch_size=8,
        learning_rate=5e-3,
        epochs=50,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    return train_detector(__file__, config, PRESETS, report)


def report(found: Sequence[Found], test: data.Source) -> tuple[dict[str, float], dict[str, plots.Figure]]:
    """COCO's numbers of the boxes of the test split, and a figure of its first images."""
    return coco_scores(found, test, "boxes"), {"detections": show(found[0], test, ("boxes", "labels"))}


def train_detector(
    experiment: str,
    config: Config,
    presets: Mapping[str, Config],
    report: Report,
    *,
    needs: Mapping[str, str] = MappingProxyType({}),
    fusion: lab.FusionOptions = FUSION,
) -> lab.Result:
    """The whole training of one detector, or of a population of them.

    Args:
      experiment: its file.
      config: of the run.
      presets: of the experiment.
      report: (what each seed found in the test split, the test split) -> (numbers, figures).
      needs: field that the network must have -> what it gives.
      fusion: which objects are in a panoptic map.
    """
    with lab.open_run(experiment, config, presets) as run:
        if run.result:
            return run.result
        detector = lab.detection(
            data=config.data,
            model=config.network.model,
            fields={"reach": 0.5 + config.assignment.radius},
            batch=config.batch,
            optimizer=config.optimizer,
            update=config.update,
            assignment=config.assignment,
            augmentation=config.augmentation,
            seed=config.random.seed,
            dtype=config.precision.dtype,
            layout=config.layout,
            accumulate=config.accumulation.accumulate,
        )
        for field, what in needs.items():
            if not getattr(detector.model, field, 0):
                raise InputError(f"{config.network.model} gives no {what}; etude {Path(experiment).stem} needs them.")
        epochs = config.training.epochs
        population = lab.population_of(config.population, config.grid, config.layout)
        training, schedule = lab.scheduled(detector.training, config.shape.schedule, config.schedule, epochs)
        peak, figures = lab.choose_rate(run, detector.training, config.rate, config.population, config.grid)
        trained = lab.fit(
            run,
            training,
            training.members(peak, config.population, config.grid),
            schedule,
            epochs,
            population=population,
            ema_decay=config.averaging.ema_decay,
            title=f"{config.network.model} on {config.data.data}",
            patience=config.stopping.patience,
            checkpoint_every=config.stopping.checkpoint_every,
        )
        test = lab.read_once(lab.load(config.data, "test"), config.batch)
        rows, find = trained.reported_rows(population), detector.finder(test, config.finding, fusion)
        found = [find(variables) for variables in trained.best_variables(rows)]
        measured = trained.measure(trained.fitted.best, test)
        values = {f"test_{name}": float(x[rows].mean()) for name, x in measured.items()}
        numbers, drawn = report(found, test)
        values |= numbers | {name: float(x[rows.start]) for name, x in trained.members.hyper.items()}
        return run.finish(values, figures | drawn)


def coco_scores(found: Sequence[Found], test: data.Source, regions: str) -> dict[str, float]:
    """COCO's numbers of the "boxes" or "masks" of the test split, means over the seeds."""
    scores = [each.numbers for each in lab.detection_scores(found, test, lab.things_of(test), regions=regions)]
    prefix = "test_mask_" if regions == "masks" else "test_"
    return named_means(scores, prefix, ("map", "map50"))


def named_means(scores: Sequence[dict[str, float]], prefix: str, spread: Sequence[str]) -> dict[str, float]:
    """Means of numbers over the seeds, under names with a prefix, and of several seeds the deviations of some."""
    means = lab.mean_over_seeds(scores, spread if len(scores) > 1 else ())
    return {prefix + name: value for name, value in means.items()}


def show(found: Found, test: data.Source, names: Sequence[str]) -> plots.Figure:
    """The first images of the test split, with what is there and what was found."""
    examples = test.read(np.arange(min(SHOWN, len(test))))
    return plots.detections(
        examples["image"],
        {name: examples[name] for name in names},
        lab.unpack({name: found[name] for name in (*names, "scores")}, len(examples["image"])),
        test.classes,
        source=test.attribution,
    )


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
