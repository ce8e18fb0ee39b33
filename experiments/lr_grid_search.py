"""Which constant learning rate is best after a short run? All rates and seeds train at once, as one program.

The lecture's procedure: for every α of a grid A run the optimizer from the same θ(0) for a short budget, and take
α* = argmin F_α; A = {2^−15, …, 2^−1} by default. F is the validation loss (--criterion train for the training
loss of the last epoch). Answer: figures/grid_search.png; result.json's "learning_rate", the argmin of the median
over seeds, and "learning_rate_low" and "learning_rate_high", between which the argmin of every single seed lies.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from .. import data, lab, plots, train
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """Budget and criterion; --population.learning-rate is the grid A."""

    # A population has one layout, and the test split is never read.
    REMOVED: ClassVar[Mapping[str, Any]] = {"parallel": "jit", "tta": ...}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    model: lab.ModelOptions = lab.ModelOptions("mlp")
    drops: lab.DropOptions = lab.DropOptions()
    weights: lab.WeightsOptions = lab.WeightsOptions()
    freezing: lab.FreezeOptions = lab.FreezeOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions()
    mixing: lab.MixingOptions = lab.MixingOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions("constant")
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=1)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    grid: lab.GridOptions = lab.GridOptions("2**-15:2**-1")
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=4)
    subset: Annotated[int | None, lab.COUNT] = None
    """Number of training examples, such as 500, the same for all members; by default all."""
    criterion: Literal["validation", "train"] = "validation"
    """Loss F that the best learning rate minimizes."""


DEMO = lab.override(Config(), epochs=3)
PRESETS = {
    "smoke": lab.override(
        Config(), preset="smoke", grid=lab.GridOptions("2**-9:2**-1"), population=lab.SeedsOptions(seeds=2)
    ),
    "demo": DEMO,
    "paper": lab.override(Config(), preset="paper", data="tfds:cifar10", model="resnet56", batch_size=128),
}


def main(config: Config) -> lab.Result:
    """Trains the grid, takes the argmin and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        if config.grid.learning_rate is None:
            raise InputError("A grid search needs a grid: give --population.learning-rate, such as 2**-15:2**-1.")
        training, schedule = lab.scheduled(
            training_of(config), config.shape.schedule, config.schedule, config.training.epochs
        )
        trained = lab.fit(
            run,
            training,
            training.members(1.0, config.population, config.grid),
            schedule,
            config.training.epochs,
            population=config.population,
            table="grid_search",
            title=f"{config.model.model} on {config.data.data}",
        )
        rates, losses = table(run.folder, config.criterion)
        best = argmin(losses)
        if best is None:
            raise train.Diverged("Every member of the grid diverged. Give lower rates with --population.learning-rate.")
        single = [rates[i] for i in map(argmin, np.split(losses, losses.shape[1], axis=1)) if i is not None]
        members, fitted = trained.members, trained.fitted
        accuracy = fitted.epochs[-1]["validation"]["accuracy"][members.hyper["learning_rate"] == rates[best]]
        return run.finish(
            {
                "learning_rate": rates[best],
                "learning_rate_low": min(single),
                "learning_rate_high": max(single),
                f"{config.criterion}_loss": float(np.median(losses[best])),
                "validation_accuracy": float(np.median(accuracy)),
                "members": len(members),
                "diverged": int((fitted.diverged_at >= 0).sum()),
                **training.report_start(),
            },
            draw(run.folder),
        )


def training_of(config: Config) -> lab.Training:
    """The classifier's training, on a subset of the examples if the config says so."""
    training = lab.classification(
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
        accumulate=config.accumulation.accumulate,
        weights=config.weights.weights,
        freeze=config.freezing.freeze,
    ).training
    if config.subset is None:
        return training
    return replace(training, source=data.subset(training.source, config.subset))


def table(folder: Path, criterion: str) -> tuple[np.ndarray, np.ndarray]:
    """(rates [n], losses [n, other members]) of grid_search.csv; NaN where a member diverged."""
    columns = lab.read_csv(folder / "grid_search.csv")
    rates = np.unique(columns["learning_rate"])
    return rates, np.stack([columns[f"{criterion}_loss"][columns["learning_rate"] == rate] for rate in rates])


def argmin(losses: np.ndarray) -> int | None:
    """Row of the lowest median; rows with a diverged member are out. None if all are."""
    medians = np.median(losses, axis=1)
    return int(np.nanargmin(medians)) if np.isfinite(medians).any() else None


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from grid_search.csv."""
    criterion = lab.read_config(folder, Config, PRESETS).criterion
    rates, losses = table(folder, criterion)
    best = argmin(losses)
    chosen = rates[best] if best is not None else np.nan
    return {"grid_search": plots.grid_search(rates, losses, chosen, ylabel=f"{criterion} loss (nats)")}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
