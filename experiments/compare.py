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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.table import Table

from .. import models, plots, schedules
from ._classification import ClassificationConfig, ClassificationProblem
from ._population import PopulationConfig, read_csv, write_csv
from ._problem import EVALUATION_BATCH, warmup_cosine
from ._race import train_entrant
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Networks and budget; --population.learning-rate is the grid of rates."""

    model: tyro.conf.Suppress[str] = ""
    """Each of `models` in turn."""
    models: tuple[str, ...] = ("linear", "mlp", "convnet", "resnet8", "resnet9_8", "vit_micro_patch2_8")
    """Names of models.names()."""
    epochs: int = 10
    """Passes through the training split, of every network."""
    population: PopulationConfig = field(default_factory=lambda: PopulationConfig("0.002,0.008,0.032", seeds=2))
    """The grid, and how many seeds of each network."""


# Of the optimizers, AdamW is the one that all of these kinds of networks train well with.
DEMO = Config(preset="demo", shift=0, batch_size=32, optimizer="adamw", weight_decay=0.01, clip_norm=1.0)
PRESETS = {
    "smoke": replace(
        DEMO, preset="smoke", models=("linear", "mlp"), epochs=2, population=PopulationConfig("0.004,0.016", seeds=2)
    ),
    "demo": DEMO,
    "paper": replace(
        DEMO, preset="paper", data="tfds:cifar10",
        models=("linear", "resnet20", "resnet56", "wrn16_4", "resnet9", "vit_tiny_patch4_32"),
        epochs=100, batch_size=128, weight_decay=0.05, shift=4, flip=True,
        population=PopulationConfig("2**-12:2**-6:4", seeds=3),
    ),
}  # fmt: skip
COLUMNS = (
    "model", "parameters", "flops", "learning_rate", "validation_accuracy", "test_accuracy", "test_accuracy_std",
    "epoch_seconds", "images_per_second",
)  # fmt: skip


def main(config: Config) -> Result:
    """Trains every network, measures, tabulates and draws."""
    with open_run("compare", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        rows = []
        for name, (problem, parameters, flops) in networks(config).items():
            trained = train_entrant(run, name, problem, warmup_cosine(problem, config.epochs), config.epochs)
            file = run.folder / name / "speed.csv"
            if not file.exists():
                write_csv(file, COLUMNS[-2:], [speed(problem)])
            accuracy = trained["test_accuracy"]
            rows.append((
                name, parameters, flops, trained["learning_rate"][0], trained["validation_accuracy"].mean(),
                accuracy.mean(), accuracy.std(), *np.ravel(list(read_csv(file).values())),
            ))  # fmt: skip
        write_csv(run.folder / "table.csv", COLUMNS, rows)
        run.console.print(as_text(run.folder))
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def networks(config: Config) -> dict[str, tuple[ClassificationProblem, int, int]]:
    """name -> (problem, parameters, operations an image). What does not fit the images is found here, by shapes alone.

    Raises: ValueError for an unknown name, fewer than two names, or a network that can't read the images.
    """
    if len(set(config.models)) < 2:
        raise ValueError(f"models are {', '.join(config.models) or 'none'}; wanted: two or more, to compare.")
    for name in config.models:
        models.create(name)
    found = {}
    for name in config.models:
        problem = ClassificationProblem.of(replace(config, model=name))
        shape = problem.train.element_spec["image"].shape
        try:
            parameters = models.count_parameters(problem.model, shape)
            found[name] = problem, parameters, models.count_flops(problem.model, shape)
        except (TypeError, ValueError) as error:  # our networks' own checks, and those of JAX's layers
            raise ValueError(f"{name} can't read the images of {config.data}, of shape {shape}: {error}") from error
    return found


def speed(problem: ClassificationProblem) -> tuple[float, float]:
    """Seconds of training an epoch, and images a second at prediction: wall clock, of one network on one device."""
    feed = problem.feed(lambda hyper: schedules.constant(hyper["learning_rate"]))
    steps = min(feed.most, MOST_STEPS)
    calls = feed.steps_per_epoch // steps  # in one epoch
    state, call = problem.where.place_state(problem.state(0.0)), 0

    def take_steps():
        nonlocal state, call
        state, read = feed.advance(state, call % calls * steps, steps)
        call += 1
        read()

    @jax.jit
    def logits(variables, images):
        return problem.model.apply(variables, problem.preprocess(images), train=False)

    epoch_seconds = _seconds(take_steps) * feed.steps_per_epoch / steps
    spec = problem.train.element_spec["image"]
    images, variables = jnp.zeros((EVALUATION_BATCH, *spec.shape), spec.dtype), state.variables
    return epoch_seconds, EVALUATION_BATCH / _seconds(lambda: jax.block_until_ready(logits(variables, images)))


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


def conclude(folder: Path) -> tuple[dict[str, float], list[Claim]]:
    """The numbers of table.csv and, where the linear model is among the networks, a claim."""
    table = read_csv(folder / "table.csv")
    values = {
        f"{name}_{column}": float(table[column][i])
        for i, name in enumerate(table["model"])
        for column in COLUMNS[1:]
    }  # fmt: skip
    linear, error = table["model"] == "linear", 1 - table["test_accuracy"]
    if not linear.any():
        return values, []
    chosen = np.argmax(table["validation_accuracy"])
    gain = float(error[chosen] - error[linear][0])
    claim = f"test error, network chosen on validation data ({table['model'][chosen]}) minus the linear model"
    return values, [Claim(claim, gain, "< 0", gain < 0)]


def as_text(folder: Path) -> Table:
    """table.csv for the terminal, the most accurate network last."""
    table = read_csv(folder / "table.csv")
    shown = Table("model", box=None, pad_edge=False)
    for title in ("parameters", "FLOPs", "test accuracy", "s/epoch", "images/s"):
        shown.add_column(title, justify="right")
    for i in np.argsort(table["test_accuracy"]):
        name, parameters, flops, _, _, accuracy, std, seconds, rate = (table[column][i] for column in COLUMNS)
        shown.add_row(
            str(name), f"{parameters:,.0f}", f"{flops:,.0f}", f"{100 * accuracy:.2f} ± {100 * std:.2f} %",
            f"{seconds:.3g}", f"{rate:,.0f}",
        )  # fmt: skip
    return shown


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from table.csv."""
    table = read_csv(folder / "table.csv")
    costs = {
        "FLOPs an image": table["flops"],
        "parameters": table["parameters"],
        "training time of an epoch (s)": table["epoch_seconds"],
    }
    errors = 100 * (1 - table["test_accuracy"]), 100 * table["test_accuracy_std"]
    return {"comparison": plots.comparison(table["model"].tolist(), costs, *errors)}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("compare"))
