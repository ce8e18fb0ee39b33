"""Name the class of every pixel: a U-Net, an FCN or a SegNet, and what long skips buy at the boundaries.

Ronneberger et al. 2015; Long et al. 2015; Badrinarayanan et al. 2015. A learning-rate range test chooses the peak rate;
the checkpoint of the best validation mIoU is measured once on the held-out test split. Answer: result.json's
"test_miou" and "test_boundary_f", which compares boundaries. With --ablation the same network without its skips trains
too, with the same seeds. With --population.learning-rate or --population.seeds, many runs train at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from .. import data, lab, models, plots
from ..errors import InputError

SHOWN = 8  # images of the figure


@dataclass(frozen=True)
class NetworkOptions:
    """Which network names the pixels."""

    TITLE: ClassVar[str] = "model"

    model: str = "unet_bn"
    """Name of the network; etude models lists all, with the role segmenter."""
    width: Annotated[int | None, lab.COUNT] = None
    """Number of channels of the finest grid, where the network has it; by default its own."""
    depth: Annotated[int | None, lab.COUNT] = None
    """Number of poolings, where the network has it; by default its own."""
    dropout: Annotated[float | None, lab.PROPER_FRACTION] = None
    """Dropout rate, where the network has it; by default its own."""
    ablation: bool = False
    """Train the same network without its skips too, and compare the boundaries."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured besides the overlap of classes."""

    TITLE: ClassVar[str] = "evaluation"

    regions_of: str | None = None
    """Name of a class whose connected regions are compared with the true ones, with borders thinned (V-Rand and V-info
    of the ISBI challenge), such as foreground; the threshold is chosen on validation. By default none are."""
    vote: bool = False
    """Predict the mean of the probabilities for the image and for its flips and quarter turns."""


@dataclass(frozen=True)
class Config:
    """Any segmenter by its name."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions("scenes")
    network: NetworkOptions = NetworkOptions()
    loss: lab.SegmentationLossOptions = lab.SegmentationLossOptions()
    augmentation: lab.AnnotatedOptions = lab.AnnotatedOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions()
    rate: lab.RangeTestOptions = lab.RangeTestOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=6)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = lab.override(Config(), model="unet_small", batch_size=8, optimizer="momentum", epochs=3)
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", data="scenes:32", epochs=1, learning_rate=1e-3),
    "demo": DEMO,
    "paper": lab.override(
        Config(),
        preset="paper",
        data="scenes:256",
        model="unet_valid",
        border_weight=10.0,
        elastic=10.0,
        batch_size=1,
        optimizer="sgd",
        momentum=0.99,
    ),
    "isbi": lab.override(
        Config(),
        preset="isbi",
        data="folder:isbi",  # docs/dense_prediction.md says where it is from
        model="unet_bn_16",
        border_weight=10.0,
        flip=True,
        turn=True,
        elastic=10.0,
        color=0.3,
        crop=192,
        crops=7,
        regions_of="foreground",
        vote=True,
        batch_size=2,
        learning_rate=3e-3,
        epochs=13,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        test = lab.load(config.data, "test")
        values, figures, classes = train(run, config, test, skips=True)
        claims: list[lab.Claim] = []
        if config.network.ablation:
            plain, _, _ = train(run.part("without_skips"), config, test, skips=False)
            values |= {f"without_skips_{name.removeprefix('test_')}": x for name, x in plain.items()}
            gained = values["test_boundary_f"] - plain["test_boundary_f"]
            claims.append(lab.Claim("boundary F that the skips add", gained, "> 0", gained > 0))
        return run.finish(values, figures, claims, classes)


def train(
    run: lab.Run, config: Config, test: data.Source, *, skips: bool
) -> tuple[dict[str, float], dict[str, plots.Figure], dict[str, dict[str, float]]]:
    """Numbers, figures, and numbers of each class, of one network or of a population, with or without its skips."""
    label = lab.label_of(test, config.evaluation.regions_of)
    segmenter = lab.segmentation(
        data=config.data,
        model=config.network.model,
        fields=fields_of(config.network, skips),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        loss=config.loss,
        augmentation=config.augmentation,
        seed=config.random.seed,
        dtype=config.precision.dtype,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
    )
    epochs = config.training.epochs
    population = lab.population_of(config.population, config.grid, config.layout)
    training, schedule = lab.scheduled(segmenter.training, config.shape.schedule, config.schedule, epochs)
    peak, figures = lab.choose_rate(run, segmenter.training, config.rate, config.population, config.grid)
    trained = lab.fit(
        run,
        training,
        training.members(peak, config.population, config.grid),
        schedule,
        epochs,
        population=population,
        better=lab.larger_overlap,
        ema_decay=config.averaging.ema_decay,
        title=f"{config.network.model} on {config.data.data}",
        patience=config.stopping.patience,
        checkpoint_every=config.stopping.checkpoint_every,
    )
    test, rows = lab.read_once(test, config.batch), trained.reported_rows(population)
    best = trained.best_variables(rows)
    predict = segmenter.predictor(test, probability_of=label, vote=config.evaluation.vote)
    said = [predict(variables) for variables in best]
    scores = [lab.segmentation_scores(each["classes"], each["boundary_f"], test) for each in said]
    numbers = [each.numbers for each in scores]
    if label is not None:
        choose = segmenter.predictor(training.validation, probability_of=label, vote=config.evaluation.vote)
        for each, variables, more in zip(said, best, numbers, strict=True):
            threshold = lab.region_threshold(choose(variables)["probability"], training.validation, label)
            more |= lab.region_scores(each["probability"] > threshold, test, label)
    measured = trained.measure(trained.fitted.best, test)
    values = {"test_loss": float(measured["loss"][rows].mean())}
    means = lab.mean_over_seeds(numbers, () if population is None else tuple(numbers[0]))
    values |= {f"test_{name}": value for name, value in means.items()}
    values |= {name: float(numbers[rows.start]) for name, numbers in trained.members.hyper.items()}
    examples = test.read(np.arange(min(SHOWN, len(test))))
    figures["segmentations"] = plots.segmentations(
        examples["image"],
        examples["semantic"],
        said[0]["classes"][:SHOWN].astype(np.int32),
        test.classes,
        source=test.attribution,
    )
    return values, figures, scores[0].classes


def fields_of(network: NetworkOptions, skips: bool) -> dict[str, Any]:
    """Fields of the network that options set.

    Raises: InputError for a field that the network does not have.
    """
    given: dict[str, Any] = {name: getattr(network, name) for name in ("width", "depth", "dropout")}
    given["skips"] = None if skips else False
    given = {name: value for name, value in given.items() if value is not None}
    known = models.fields(models.create(network.model))
    for name in given:
        if name not in known:
            raise InputError(
                f"{network.model} has no {name}; leave {'--ablation' if name == 'skips' else '--' + name} out."
            )
    return given


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
