"""What do parameters and arithmetic buy? Networks of several kinds on one task, each at its own best learning rate.

All rates and seeds of a network train at once, with warm-up and cosine decay; its rate is chosen on validation data,
and the test split is read once, with the seeds of that rate. Answer: figures/comparison.png and table.csv: parameters,
floating-point operations an image (two for a multiply-add), test accuracy (mean and standard deviation over the seeds),
and two times by the wall clock, of one network on one device of the machine in environment.json: seconds of training an
epoch, and images a second at prediction, in batches of 256.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from .. import lab, models, plots, schedules
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """Networks and budget; --population.learning-rate is the grid of rates."""

    # Each of `models` trains in turn; a population has one layout.
    REMOVED: ClassVar[Mapping[str, Any]] = {"model": ..., "parallel": "jit"}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    models: Annotated[tuple[str, ...], lab.DISTINCT] = (
        "linear",
        "mlp",
        "convnet",
        "resnet8",
        "resnet9_8",
        "vit_micro_patch2_8",
    )
    """Names of the networks, two or more, such as linear resnet20; etude models lists all."""
    drops: lab.DropOptions = lab.DropOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions(shift=0)
    mixing: lab.MixingOptions = lab.MixingOptions()
    views: lab.ViewOptions = lab.ViewOptions()
    batch: lab.BatchOptions = lab.BatchOptions(batch_size=32)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    # Of the optimizers, AdamW is the one that all of these kinds of networks train well with.
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.01, clip_norm=1.0)
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(10)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=2)
    grid: lab.GridOptions = lab.GridOptions("0.002,0.008,0.032")


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        models=("linear", "mlp"),
        epochs=2,
        grid=lab.GridOptions("0.004,0.016"),
    ),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        models=("linear", "resnet20", "resnet56", "wrn16_4", "resnet9", "vit_tiny_patch4_32"),
        epochs=100,
        batch_size=128,
        weight_decay=0.05,
        shift=4,
        flip=True,
        grid=lab.GridOptions("2**-12:2**-6:4"),
        population=lab.SeedsOptions(seeds=3),
    ),
}
TIMES = ("epoch_seconds", "images_per_second")
ACCURACIES = ("validation_accuracy", "test_accuracy", "test_accuracy_std")
COLUMNS = ("model", "parameters", "flops", "learning_rate", *ACCURACIES, *TIMES)


def main(config: Config) -> lab.Result:
    """Trains every network, measures, tabulates and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        race = lab.Race(run, lab.load(config.data, "test"), config.training.epochs, config.population, config.grid)
        rows = []
        for name, (classifier, parameters, flops) in networks(config).items():
            entrant = lab.entrant(classifier, config.shape.schedule, config.schedule, race.epochs)
            trained = race.train(name, *entrant)
            file = run.folder / name / "speed.csv"
            if not file.exists():
                lab.write_csv(file, TIMES, [speed(classifier)])
            accuracy, times = trained["test_accuracy"], lab.read_csv(file)
            accuracies = trained["validation_accuracy"].mean(), accuracy.mean(), accuracy.std()
            rate = trained["learning_rate"][0]
            rows.append((name, parameters, flops, rate, *accuracies, *(times[each][0] for each in TIMES)))
        lab.write_csv(run.folder / "table.csv", COLUMNS, rows)
        run.display.show(as_text(run.folder))
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def networks(config: Config) -> dict[str, tuple[lab.Classifier, int, int]]:
    """name -> (classifier, parameters, operations an image). What does not fit the images is found by shapes alone.

    Raises: InputError for an unknown name, fewer than two names, or a network that can't read the images.
    """
    if len(set(config.models)) < 2:
        raise InputError(f"models are {', '.join(config.models) or 'none'}; give two or more, to compare.")
    found = {}
    for name in config.models:
        classifier = make_classifier(config, name)
        shape = classifier.training.source.element_spec["image"].shape
        try:
            costs = models.count_parameters(classifier.model, shape), models.count_flops(classifier.model, shape)
        except (TypeError, ValueError) as error:  # our networks' own checks, and those of JAX's layers
            raise InputError(
                f"{name} can't read the images of {config.data.data}, of shape {shape}: {error}"
            ) from error
        found[name] = classifier, *costs
    return found


def make_classifier(config: Config, model: str) -> lab.Classifier:
    """A network and its data."""
    return lab.classification(
        data=config.data,
        model=model,
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
    )


def speed(classifier: lab.Classifier) -> tuple[float, float]:
    """Seconds of training an epoch, and images a second at prediction: wall clock, of one network on one device."""
    training = classifier.training
    # A rate of 0: however many steps are timed, the numbers in them stay finite.
    start = training.start(training.members(1.0), lambda hyper: schedules.constant(0.0), training.steps(1))
    steps = min(start.feed.most, MOST_STEPS)
    calls = start.feed.steps_per_epoch // steps  # in one epoch
    state, call = start.layout.place_state(start.state), 0

    def take_steps():
        nonlocal state, call
        state, read = start.feed.advance(state, call % calls * steps, steps)
        call += 1
        read()

    @jax.jit
    def logits(variables, images):
        return classifier.model.apply(variables, classifier.preprocess(images), train=False)

    epoch_seconds = _seconds(take_steps) * start.feed.steps_per_epoch / steps
    spec, count = training.source.element_spec["image"], lab.EVALUATION_BATCH
    images, variables = jnp.zeros((count, *spec.shape), spec.dtype), state.variables
    return epoch_seconds, count / _seconds(lambda: jax.block_until_ready(logits(variables, images)))


MOST_STEPS = 8  # in one call
FEWEST_CALLS, FEWEST_SECONDS = 5, 0.5


def _seconds(call: Callable[[], Any]) -> float:
    """Of a call: the fastest of several, as other programs can only make one longer. The first one compiles."""
    call()
    times = []
    while len(times) < FEWEST_CALLS or sum(times) < FEWEST_SECONDS:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def conclude(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """The numbers of table.csv and, where the linear model is among the networks, a claim."""
    table = lab.read_csv(folder / "table.csv")
    values = {
        f"{name}_{column}": float(table[column][i]) for i, name in enumerate(table["model"]) for column in COLUMNS[1:]
    }
    linear, error = table["model"] == "linear", 1 - table["test_accuracy"]
    if not linear.any():
        return values, []
    chosen = np.argmax(table["validation_accuracy"])
    gain = float(error[chosen] - error[linear][0])
    claim = f"test error, network chosen on validation data ({table['model'][chosen]}) minus the linear model"
    return values, [lab.Claim(claim, gain, "< 0", gain < 0)]


def as_text(folder: Path) -> Table:
    """table.csv for the terminal, the most accurate network last."""
    table = lab.read_csv(folder / "table.csv")
    shown = Table("model", box=None, pad_edge=False)
    for title in ("parameters", "FLOPs", "test accuracy", "s/epoch", "images/s"):
        shown.add_column(title, justify="right")
    for i in np.argsort(table["test_accuracy"]):
        name, parameters, flops, _, _, accuracy, std, seconds, rate = (table[column][i] for column in COLUMNS)
        shown.add_row(
            str(name),
            f"{parameters:,.0f}",
            f"{flops:,.0f}",
            f"{100 * accuracy:.2f} ± {100 * std:.2f} %",
            f"{seconds:.3g}",
            f"{rate:,.0f}",
        )
    return shown


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from table.csv."""
    table = lab.read_csv(folder / "table.csv")
    costs = {
        "FLOPs an image": table["flops"],
        "parameters": table["parameters"],
        "training time of an epoch (s)": table["epoch_seconds"],
    }
    errors = 100 * (1 - table["test_accuracy"]), 100 * table["test_accuracy_std"]
    seeds = lab.read_config(folder, Config, PRESETS).population.seeds
    return {"comparison": plots.comparison(table["model"].tolist(), costs, *errors, seeds)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
