"""Does a residual network keep training where a plain one of equal depth stalls? (He et al. 2015, figures 1 and 6.)

Plain and residual networks of equal sizes train at several depths on the same data and budget, all seeds of a network
at once; nothing augments or regularises, so that the training error is that of the optimisation alone. Answer:
figures/depth.png and table.csv; result.json: by how much the deepest plain network trains worse than the shallowest,
and that the residual one does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from .. import models, plots
from ._classification import ClassificationConfig, ClassificationProblem
from ._members import fit_members
from ._population import PopulationConfig, read_csv, write_csv
from ._problem import require_population_of_seeds, warmup_cosine
from ._run import Claim, Result, Run, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Depths and budget."""

    model: tyro.conf.Suppress[str] = ""
    """Plain and residual, of each of `depths` in turn."""
    depths: tuple[int, ...] = (8, 20, 56)
    """6n + 2, of the CIFAR family; the shallowest first."""
    epochs: int = 15
    """Passes through the training split, at every depth."""
    learning_rate: float = 0.05
    """Peak rate of all networks, reached after a tenth of the steps and followed by a cosine."""


DEMO = Config(preset="demo", shift=0, weight_decay=0.0, population=PopulationConfig(seeds=3))
PRESETS = {
    "smoke": replace(DEMO, preset="smoke", depths=(8, 14), epochs=2, population=PopulationConfig(seeds=2)),
    "demo": DEMO,
    "paper": Config(
        preset="paper", data="tfds:cifar10", depths=(20, 32, 44, 56), epochs=164, batch_size=128, learning_rate=0.1,
        shift=4, flip=True, weight_decay=1e-4, population=PopulationConfig(seeds=5),
    ),
}  # fmt: skip
KINDS = {"plain": "cifar_plain", "residual": "cifar_resnet"}
COLUMNS = ("kind", "depth", "seed", "epoch", "train_loss", "train_error", "validation_error")


def main(config: Config) -> Result:
    """Trains every network, tabulates and draws."""
    with open_run("depth", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        if len(config.depths) < 2 or list(config.depths) != sorted(set(config.depths)):
            raise ValueError(f"depths are {config.depths}; wanted at least two, the shallowest first.")
        require_population_of_seeds(config)
        for depth in config.depths:
            models.create(f"{KINDS['plain']}{depth}")  # before the shallower ones train
        rows = []
        for kind, family in KINDS.items():
            for depth in config.depths:
                part = run.part(f"{kind}{depth}")
                if not (part.folder / "curves.csv").exists():
                    run.journal.say(f"{kind}, {depth} layers …")
                    problem = ClassificationProblem.of(replace(config, model=f"{family}{depth}"))
                    write_csv(part.folder / "curves.csv", COLUMNS, train_depth(part, problem, kind, depth))
                rows += list(zip(*read_csv(part.folder / "curves.csv").values(), strict=True))
        write_csv(run.folder / "table.csv", COLUMNS, rows)
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def train_depth(part: Run, problem: ClassificationProblem, kind: str, depth: int) -> Iterator[tuple]:
    """Trains the seeds of one network; rows of `COLUMNS`."""
    config: Config = problem.config  # pyright: ignore[reportAssignmentType]
    trained = fit_members(
        part, problem, problem.members(config.learning_rate),
        warmup_cosine(problem, config.epochs), config.epochs,
        name="members", better=lambda validation: (validation["accuracy"],),
    )  # fmt: skip
    trained.require_all()
    for i, seed in enumerate(trained.members.seeds):
        for epoch in trained.fitted.epochs:
            learnt, validation = epoch["train"], epoch["validation"]
            errors = 1 - learnt["accuracy"][i], 1 - validation["accuracy"][i]
            yield kind, depth, seed, epoch["epoch"], learnt["loss"][i], *errors


def conclude(folder: Path) -> tuple[dict[str, float], list[Claim]]:
    """The numbers and claims of table.csv: errors of the last epoch, over its minibatches, means over the seeds."""
    values, gaps = {}, {}
    for kind, of_depth in curves(folder, "train_error").items():
        last = {depth: errors[-1] for depth, (_, errors) in of_depth.items()}
        for depth, errors in last.items():
            values |= {f"{kind}{depth}_train_error": float(errors.mean()),
                       f"{kind}{depth}_train_error_std": float(errors.std())}  # fmt: skip
        shallowest, deepest = last[min(last)], last[max(last)]
        gaps[kind] = float(deepest.mean() - shallowest.mean()), float(np.hypot(deepest.std(), shallowest.std()))
    (plain, plain_spread), (residual, residual_spread) = gaps["plain"], gaps["residual"]
    values |= {"plain_gap": plain, "residual_gap": residual}
    return values, [
        Claim("training error, deepest plain network minus shallowest", plain, f"> its spread, {plain_spread:.2g}",
              plain > plain_spread),
        Claim("the same of residual networks", residual, f"<= its spread, {residual_spread:.2g}",
              residual <= residual_spread),
    ]  # fmt: skip


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from table.csv."""
    return {"depth": plots.depths({
        kind: {depth: (epochs, 100 * errors) for depth, (epochs, errors) in of_depth.items()}
        for kind, of_depth in curves(folder, "train_error").items()
    })}  # fmt: skip


def curves(folder: Path, measure: str) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """kind -> depth -> (epochs, values [epochs, seeds])."""
    table = read_csv(folder / "table.csv")
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for kind in dict.fromkeys(table["kind"].tolist()):
        for depth in np.unique(table["depth"][table["kind"] == kind]):
            rows = (table["kind"] == kind) & (table["depth"] == depth)
            epochs, seeds = np.unique(table["epoch"][rows]), len(np.unique(table["seed"][rows]))
            found.setdefault(kind, {})[int(depth)] = epochs, table[measure][rows].reshape(seeds, len(epochs)).T
    return found


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("depth"))
