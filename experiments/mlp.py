"""What do width, depth and activation of a multilayer perceptron buy?

Networks of every width, depth and activation, and the linear model, train on the same task, each at its own best
learning rate: chosen on validation data, all rates and seeds of a network at once. The test split only reports.
Answer: figures/mlp.png and table.csv, means and standard deviations over the seeds; result.json: how much smaller the
error gets by hidden layers and by their width, and how much worse the sigmoid trains the deepest networks than ReLU.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import flax.linen as nn
import numpy as np
from matplotlib.figure import Figure

from .. import models, plots, train
from ..models import activations
from ._classification import ClassificationConfig, ClassificationProblem
from ._population import PopulationConfig, read_csv, write_csv
from ._problem import warmup_cosine
from ._race import train_entrant
from ._run import Claim, Result, Run, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """The networks and their budget; --population.learning-rate is the grid of rates."""

    model: str = "mlp"
    """Whatever has hidden layers and an activation."""
    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "swish")
    """Names of models.activations.ACTIVATIONS."""
    widths: tuple[int, ...] = (4, 16, 64)
    """Of every hidden layer."""
    depths: tuple[int, ...] = (1, 4)
    """How many hidden layers."""
    epochs: int = 20
    """Passes through the training split."""
    shift: int | None = 0
    """Largest shift of the augmentation; none, so that the training loss is that of the task."""
    population: PopulationConfig = field(default_factory=lambda: PopulationConfig("2**-7:2**1:5", seeds=4))
    """The grid, and how many seeds of each network."""


PRESETS = {
    "smoke": Config(
        preset="smoke", activations=("sigmoid", "relu"), widths=(4,), depths=(2,), epochs=3,
        population=PopulationConfig(learning_rate="0.03,0.1", seeds=2),
    ),
    "demo": Config(),
    "paper": Config(
        preset="paper", data="tfds:fashion_mnist", activations=tuple(activations.ACTIVATIONS),
        widths=(16, 64, 256, 1024), depths=(1, 2, 4, 8), epochs=50, batch_size=128,
        population=PopulationConfig(learning_rate="2**-11:2**1:7", seeds=5),
    ),
}  # fmt: skip
MEASURES = ("train_loss", "validation_error", "test_error")
SPREADS = tuple(f"{measure}_std" for measure in MEASURES)
COLUMNS = ("activation", "depth", "width", "parameters", "learning_rate", *MEASURES, *SPREADS)


def main(config: Config) -> Result:
    """Trains every network, tabulates and draws."""
    with open_run("mlp", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem, rows = ClassificationProblem.of(config), []
        shape = problem.train.element_spec["image"].shape
        for (activation, depth, width), model in networks(config, problem.model).items():
            name = f"{activation}_{depth}x{width}" if depth else activation
            count = models.count_parameters(model, shape)
            seeds = train_seeds(run, name, problem, model, config.epochs)
            spread = [of(seeds[measure]) for of in (np.mean, np.std) for measure in MEASURES]
            rows.append((activation, depth, width, count, seeds["learning_rate"][0], *spread))
        write_csv(run.folder / "table.csv", COLUMNS, rows)
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def networks(config: Config, model: nn.Module) -> dict[tuple[str, int, int], nn.Module]:
    """(activation, depth, width) -> network, the linear model first."""
    if not {"hidden", "activation"} <= set(models.fields(model)):
        raise ValueError(f"{config.model} has no hidden layers and activation to vary; give --model mlp.")
    if not (config.activations and config.widths and config.depths) or min(*config.widths, *config.depths) < 1:
        raise ValueError("Wanted activations, and widths and depths of at least 1.")
    functions = {name: activations.named(name) for name in config.activations}
    return {("linear", 0, 0): model.clone(hidden=())} | {
        (name, depth, width): model.clone(hidden=(width,) * depth, activation=functions[name])
        for name, depth, width in product(functions, config.depths, config.widths)
    }


def train_seeds(
    run: Run, name: str, problem: ClassificationProblem, model: nn.Module, epochs: int
) -> dict[str, np.ndarray]:
    """What each seed of a network came to at the network's best rate. Trains, unless an earlier start did.

    The training loss is the mean over the last epoch; the errors are those of the best checkpoint.
    """
    task = train.classification(
        model, problem.train.element_spec["image"].shape, preprocess=problem.preprocess,
        label_smoothing=problem.config.label_smoothing,
    )  # fmt: skip
    schedule = warmup_cosine(problem, epochs)
    seeds = train_entrant(run, name, replace(problem, model=model, task=task), schedule, epochs)
    curve = read_csv(run.folder / name / "curves.csv")
    return {
        "learning_rate": seeds["learning_rate"],
        "train_loss": curve["train_loss"][curve["epoch"] == curve["epoch"].max()],
        "validation_error": 1 - seeds["validation_accuracy"],
        "test_error": 1 - seeds["test_accuracy"],
    }


def conclude(folder: Path) -> tuple[dict[str, float], list[Claim]]:
    """The numbers and claims of table.csv; the network that counts is chosen on validation data."""
    table = read_csv(folder / "table.csv")
    deep = table["depth"] > 0
    chosen = np.arange(len(deep)) == np.flatnonzero(deep)[np.argmin(table["validation_error"][deep])]
    values = {f"chosen_{name}": float(table[name][chosen][0]) for name in table if name != "activation"}
    values |= {f"linear_{name}": float(table[name][~deep][0]) for name in ("parameters", "learning_rate", *MEASURES)}
    narrow, wide = (deep & (table["width"] == of(table["width"][deep])) for of in (np.min, np.max))
    deepest = wide & (table["depth"] == table["depth"].max())
    sigmoid, relu = (deepest & (table["activation"] == name) for name in ("sigmoid", "relu"))
    comparisons = {
        f"test error, chosen ({table['activation'][chosen][0]}) over linear": ("test_error", chosen, ~deep),
        "test error, widest networks over narrowest": ("test_error", wide, narrow & ~wide),
        "training loss, deepest and widest network, ReLU over sigmoid": ("train_loss", relu, sigmoid),
    }
    ratios = {
        name: float(table[measure][rows].mean() / table[measure][others].mean())
        for name, (measure, rows, others) in comparisons.items()
        if rows.any() and others.any()  # a config may have one width only, or no sigmoid
    }
    return values, [Claim(name, ratio, "< 0.9", ratio < 0.9) for name, ratio in ratios.items()]


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from table.csv."""
    table = read_csv(folder / "table.csv")
    measures = {
        "training loss (nats)": (table["train_loss"], table["train_loss_std"]),
        "test error (%)": (100 * table["test_error"], 100 * table["test_error_std"]),
    }
    return {"mlp": plots.widths(table["depth"], table["width"], table["activation"], measures)}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("mlp"))
