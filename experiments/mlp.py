"""What do width, depth and activation of a multilayer perceptron buy?

Networks of every width, depth and activation, and the linear model, train on the same task, each at its own best
learning rate: chosen on validation data, all rates and seeds of a network at once. The test split only reports.
Answer: figures/mlp.png and table.csv, means and standard deviations over the seeds; result.json: how much smaller the
error gets by hidden layers and by their width, and how much worse the sigmoid trains the deepest networks than ReLU.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import numpy as np

from .. import lab, models, plots
from ..errors import InputError
from ..models.layers.activations import ACTIVATIONS


@dataclass(frozen=True)
class Config:
    """The networks and their budget; --population.learning-rate is the grid of rates."""

    # Networks are multilayer perceptrons, which have no stochastic depth; a population has one layout.
    REMOVED: ClassVar[Mapping[str, Any]] = {"model": ..., "drop_path": None, "parallel": "jit"}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    activations: Annotated[tuple[str, ...], lab.Choice("activation", ACTIVATIONS), lab.DISTINCT] = (
        "sigmoid",
        "tanh",
        "relu",
        "swish",
    )
    """Names of the activations of hidden layers, one or more."""
    widths: Annotated[tuple[int, ...], lab.COUNT, lab.DISTINCT] = (4, 16, 64)
    """Numbers of units of every hidden layer, one or more."""
    depths: Annotated[tuple[int, ...], lab.COUNT, lab.DISTINCT] = (1, 4)
    """Numbers of hidden layers, one or more."""
    dropout: Annotated[float | None, lab.PROPER_FRACTION] = None
    """Rate of dropout after every hidden layer, such as 0.1; by default none."""
    loss: lab.LossOptions = lab.LossOptions()
    # Nothing is shifted by default, so that the training loss is that of the task.
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions(shift=0)
    mixing: lab.MixingOptions = lab.MixingOptions()
    views: lab.ViewOptions = lab.ViewOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(20)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=4)
    grid: lab.GridOptions = lab.GridOptions("2**-7:2**1:5")


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        activations=("sigmoid", "relu"),
        widths=(4,),
        depths=(2,),
        epochs=3,
        grid=lab.GridOptions("0.03,0.1"),
        population=lab.SeedsOptions(seeds=2),
    ),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:fashion_mnist",
        activations=tuple(ACTIVATIONS),
        widths=(16, 64, 256, 1024),
        depths=(1, 2, 4, 8),
        epochs=50,
        batch_size=128,
        grid=lab.GridOptions("2**-11:2**1:7"),
        population=lab.SeedsOptions(seeds=5),
    ),
}
MEASURES = ("train_loss", "validation_error", "test_error")
SPREADS = tuple(f"{measure}_std" for measure in MEASURES)
COLUMNS = ("activation", "depth", "width", "parameters", "learning_rate", *MEASURES, *SPREADS)


def main(config: Config) -> lab.Result:
    """Trains every network, tabulates and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        race = lab.Race(run, lab.load(config.data, "test"), config.training.epochs, config.population, config.grid)
        rows, shape = [], race.test.element_spec["image"].shape
        for (activation, depth, width), model in networks(config).items():
            name = f"{activation}_{depth}x{width}" if depth else activation
            seeds = train_seeds(race, name, make_classifier(config, model), config)
            spread = [of(seeds[measure]) for of in (np.mean, np.std) for measure in MEASURES]
            count = models.count_parameters(model, shape)
            rows.append((activation, depth, width, count, seeds["learning_rate"][0], *spread))
        lab.write_csv(run.folder / "table.csv", COLUMNS, rows)
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def networks(config: Config) -> dict[tuple[str, int, int], nn.Module]:
    """(activation, depth, width) -> network, the linear model first.

    Raises: InputError if there are no activations, widths or depths.
    """
    if not (config.activations and config.widths and config.depths):
        raise InputError("There is nothing to compare; give at least one each of activations, widths and depths.")
    model = make_classifier(config, "mlp").model
    return {("linear", 0, 0): model.clone(hidden=())} | {
        (name, depth, width): model.clone(hidden=(width,) * depth, activation=ACTIVATIONS[name])
        for name, depth, width in product(config.activations, config.depths, config.widths)
    }


def make_classifier(config: Config, model: str | nn.Module) -> lab.Classifier:
    """A network and its data."""
    return lab.classification(
        data=config.data,
        model=model,
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        drops=lab.DropOptions(dropout=config.dropout),
        label_smoothing=config.loss.label_smoothing,
        class_weights=config.loss.class_weights,
        dtype=config.precision.dtype,
        augmentation=config.augmentation,
        mixing=config.mixing,
        copies=config.views.tta,
        accumulate=config.accumulation.accumulate,
    )


def train_seeds(race: lab.Race, name: str, classifier: lab.Classifier, config: Config) -> dict[str, np.ndarray]:
    """What each seed of a network came to at the network's best rate. Trains, unless an earlier start did.

    The training loss is the mean over the last epoch; the errors are those of the best checkpoint.
    """
    seeds = race.train(name, *lab.entrant(classifier, config.shape.schedule, config.schedule, race.epochs))
    curve = lab.read_csv(race.run.folder / name / "curves.csv")
    return {
        "learning_rate": seeds["learning_rate"],
        "train_loss": curve["train_loss"][curve["epoch"] == curve["epoch"].max()],
        "validation_error": 1 - seeds["validation_accuracy"],
        "test_error": 1 - seeds["test_accuracy"],
    }


def conclude(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """The numbers and claims of table.csv; the network that counts is chosen on validation data."""
    table = lab.read_csv(folder / "table.csv")
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
    }
    ratios = {
        name: float(table[measure][rows].mean() / table[measure][others].mean())
        for name, (measure, rows, others) in comparisons.items()
        if rows.any() and others.any()  # a config may have one width only, or no sigmoid
    }
    claims = [lab.Claim(name, ratio, "< 0.9", ratio < 0.9) for name, ratio in ratios.items()]
    if relu.any() and sigmoid.any():
        # A difference: label smoothing adds a constant to the loss, and a ratio would change with it.
        gain = float(table["train_loss"][relu].mean() - table["train_loss"][sigmoid].mean())
        name = "training loss, deepest and widest network, ReLU minus sigmoid (nats)"
        claims.append(lab.Claim(name, gain, "< 0", gain < 0))
    return values, claims


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from table.csv."""
    table = lab.read_csv(folder / "table.csv")
    measures = {
        "training loss (nats)": (table["train_loss"], table["train_loss_std"]),
        "test error (%)": (100 * table["test_error"], 100 * table["test_error_std"]),
    }
    seeds = lab.read_config(folder, Config, PRESETS).population.seeds
    return {"mlp": plots.widths(table["depth"], table["width"], table["activation"], measures, seeds)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
