"""Does a residual network keep training where a plain one of equal depth stalls? (He et al. 2015, figures 1 and 6.)

Plain and residual networks of equal sizes train at several depths on the same data and budget, all seeds of a network
at once; nothing augments or regularizes, so that the training error is that of the optimization alone. Answer:
figures/depth.png and table.csv; result.json: by how much the deepest plain network trains worse than the shallowest,
and that the residual one does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from .. import lab, plots
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """Depths and budget."""

    # Networks are plain or residual, of each depth; members differ by their seeds; the test split is never read.
    REMOVED: ClassVar[Mapping[str, Any]] = {"model": ..., **lab.NO_GRID, "parallel": "jit", "tta": ...}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    depths: Annotated[tuple[int, ...], lab.COUNT] = (8, 20, 56)
    """Numbers of layers, two or more, each 6n + 2, the smallest first."""
    drops: lab.DropOptions = lab.DropOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions(shift=0)
    mixing: lab.MixingOptions = lab.MixingOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions(0.05)  # reached after a tenth of the steps and followed by a cosine
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(15)
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=3)


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", depths=(8, 14), epochs=2, population=lab.SeedsOptions(seeds=2)),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        depths=(20, 32, 44, 56),
        epochs=164,
        batch_size=128,
        learning_rate=0.1,
        shift=4,
        flip=True,
        weight_decay=1e-4,
        population=lab.SeedsOptions(seeds=5),
    ),
}
KINDS = {"plain": "cifar_plain", "residual": "cifar_resnet"}
COLUMNS = ("kind", "depth", "seed", "epoch", "train_loss", "train_error", "validation_error")


def main(config: Config) -> lab.Result:
    """Trains every network, tabulates and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        if len(config.depths) < 2 or list(config.depths) != sorted(set(config.depths)):
            raise InputError(f"depths are {config.depths}; give at least two, the smallest first.")
        networks = [
            (kind, depth, make_classifier(config, f"{family}{depth}"))
            for kind, family in KINDS.items()
            for depth in config.depths
        ]
        rows = []
        for kind, depth, classifier in networks:
            part = run.part(f"{kind}{depth}")
            if not (part.folder / "curves.csv").exists():
                run.display.say(f"{kind}, {depth} layers …")
                curve = train_seeds(part, config, classifier.training)
                lab.write_csv(part.folder / "curves.csv", COLUMNS, ((kind, depth, *row) for row in curve))
            rows += list(zip(*lab.read_csv(part.folder / "curves.csv").values(), strict=True))
        lab.write_csv(run.folder / "table.csv", COLUMNS, rows)
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


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
        accumulate=config.accumulation.accumulate,
    )


def train_seeds(part: lab.Run, config: Config, training: lab.Training) -> Iterator[tuple]:
    """Trains the seeds of one network; rows of `COLUMNS` from the seed on."""
    epochs, members = config.training.epochs, training.members(config.rate.learning_rate, config.population)
    training, schedule = lab.scheduled(training, config.shape.schedule, config.schedule, epochs)
    trained = lab.fit(
        part,
        training,
        members,
        schedule,
        epochs,
        population=config.population,
        better=lambda validation: (validation["accuracy"],),
        title=f"{len(members)} members on {config.data.data}",
    )
    trained.require_all()
    for i, seed in enumerate(members.seeds):
        for epoch in trained.epochs():
            learned, validation = epoch["train"], epoch["validation"]
            errors = 1 - learned["accuracy"][i], 1 - validation["accuracy"][i]
            yield seed, epoch["epoch"], learned["loss"][i], *errors


def conclude(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """The numbers and claims of table.csv: errors of the last epoch, over its minibatches, means over the seeds."""
    values, gaps = {}, {}
    for kind, of_depth in curves(folder, "train_error").items():
        last = {depth: errors[-1] for depth, (_, errors) in of_depth.items()}
        for depth, errors in last.items():
            values |= {
                f"{kind}{depth}_train_error": float(errors.mean()),
                f"{kind}{depth}_train_error_std": float(errors.std()),
            }
        shallowest, deepest = last[min(last)], last[max(last)]
        gaps[kind] = float(deepest.mean() - shallowest.mean()), float(np.hypot(deepest.std(), shallowest.std()))
    (plain, plain_spread), (residual, residual_spread) = gaps["plain"], gaps["residual"]
    values |= {"plain_gap": plain, "residual_gap": residual}
    return values, [
        lab.Claim(
            "training error, deepest plain network minus shallowest",
            plain,
            f"> its spread, {plain_spread:.2g}",
            plain > plain_spread,
        ),
        lab.Claim(
            "the same of residual networks",
            residual,
            f"<= its spread, {residual_spread:.2g}",
            residual <= residual_spread,
        ),
    ]


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from table.csv."""
    return {
        "depth": plots.depths(
            {
                kind: {depth: (epochs, 100 * errors) for depth, (epochs, errors) in of_depth.items()}
                for kind, of_depth in curves(folder, "train_error").items()
            }
        )
    }


def curves(folder: Path, measure: str) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """kind -> depth -> (epochs, values [epochs, seeds])."""
    table = lab.read_csv(folder / "table.csv")
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for kind in dict.fromkeys(table["kind"].tolist()):
        for depth in np.unique(table["depth"][table["kind"] == kind]):
            rows = (table["kind"] == kind) & (table["depth"] == depth)
            epochs, seeds = np.unique(table["epoch"][rows]), len(np.unique(table["seed"][rows]))
            found.setdefault(kind, {})[int(depth)] = epochs, table[measure][rows].reshape(seeds, len(epochs)).T
    return found


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
