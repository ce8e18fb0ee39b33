"""Which constant learning rate is best after a short run? All rates and seeds train at once, as one program.

The lecture's procedure: for every α of a grid A run the optimizer from the same θ(0) for a short budget, and take
α* = argmin F_α; A = {2^−15, …, 2^−1} by default. F is the validation loss (--criterion train for the training
loss of the last epoch). Answer: figures/grid_search.png; result.json's "learning_rate", the argmin of the median
over seeds, and "learning_rate_low" and "learning_rate_high", between which the argmin of every single seed lies.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from .. import data, plots, schedules, train
from ._classification import ClassificationConfig, ClassificationProblem
from ._members import fit_members
from ._population import PopulationConfig, read_config, read_csv
from ._run import Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Budget and criterion; --population.learning-rate is the grid A."""

    model: str = "mlp"
    """Any name of models.names()."""
    epochs: int = 1
    """Passes through the training split, or its subset."""
    subset: int | None = None
    """Train on this many examples only, the same for all members."""
    criterion: Literal["validation", "train"] = "validation"
    """Which loss F is."""
    population: PopulationConfig = PopulationConfig(learning_rate="2**-15:2**-1", seeds=4)  # noqa: RUF009
    """The grid."""


PRESETS = {
    "smoke": Config(preset="smoke", population=PopulationConfig(learning_rate="2**-9:2**-1", seeds=2)),
    "demo": Config(preset="demo", epochs=3),
    "paper": Config(preset="paper", data="tfds:cifar10", model="resnet56", batch_size=128, epochs=1),
}


def main(config: Config) -> Result:
    """Trains the grid, takes the argmin and draws."""
    with open_run("lr_grid_search", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        if config.population.learning_rate is None:
            raise ValueError("A grid search needs a grid: give --population.learning-rate, such as 2**-15:2**-1.")
        problem = ClassificationProblem.of(config)
        if config.subset is not None:
            problem = replace(problem, train=data.subset(problem.train, config.subset))
        trained = fit_members(
            run, problem, problem.members(0.0), lambda hyper: schedules.constant(hyper["learning_rate"]), config.epochs,
            name="grid_search", better=lambda validation: (-validation["loss"],),
        )  # fmt: skip
        members, fitted = trained.members, trained.fitted

        rates, losses = table(run.folder, config.criterion)
        best = argmin(losses)
        if best is None:
            raise train.Diverged("Every member of the grid diverged. Give lower rates with --population.learning-rate.")
        single = [rates[i] for i in map(argmin, np.split(losses, losses.shape[1], axis=1)) if i is not None]
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
            },
            draw(run.folder),
        )


def table(folder: Path, criterion: str) -> tuple[np.ndarray, np.ndarray]:
    """(rates [n], losses [n, other members]) of grid_search.csv; NaN where a member diverged."""
    columns = read_csv(folder / "grid_search.csv")
    rates = np.unique(columns["learning_rate"])
    return rates, np.stack([columns[f"{criterion}_loss"][columns["learning_rate"] == rate] for rate in rates])


def argmin(losses: np.ndarray) -> int | None:
    """Row of the lowest median; rows with a diverged member are out. None if all are."""
    medians = np.median(losses, axis=1)
    return int(np.nanargmin(medians)) if np.isfinite(medians).any() else None


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from grid_search.csv."""
    criterion = read_config(folder)["criterion"]
    rates, losses = table(folder, criterion)
    best = argmin(losses)
    chosen = rates[best] if best is not None else np.nan
    return {"grid_search": plots.grid_search(rates, losses, chosen, ylabel=f"{criterion} loss (nats)")}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("lr_grid_search"))
