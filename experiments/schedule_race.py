"""Which learning-rate schedule is best, each at its own best peak rate?

All schedules of the lecture train the same network on the same task; each one's peak rate is chosen on validation data
from a grid, all rates and seeds of a schedule at once. Answer: figures/race.png and result.json; figures/gallery.png
shows the schedules, as the slide does. race.csv has the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optax
from matplotlib.figure import Figure

from .. import plots, schedules, train
from ._classification import ClassificationConfig, ClassificationProblem
from ._population import PopulationConfig
from ._race import draw_race, race
from ._run import Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Budget; --population.learning-rate is the grid of peak rates."""

    model: str = "mlp"
    """Any name of models.names()."""
    epochs: int = 12
    """Passes through the training split."""
    only: tuple[str, ...] = ()
    """Race these schedules only; all by default."""
    population: PopulationConfig = field(default_factory=lambda: PopulationConfig(learning_rate="2**-8:2**-1", seeds=4))
    """The grid."""


PRESETS = {
    "smoke": Config(
        preset="smoke", epochs=3, only=("constant", "cosine", "plateau"),
        population=PopulationConfig(learning_rate="2**-5:2**-3", seeds=2),
    ),
    "demo": Config(preset="demo"),
    "paper": Config(
        preset="paper", data="tfds:cifar10", model="resnet20", epochs=100, batch_size=128, flip=True,
        population=PopulationConfig(learning_rate="2**-9:2**0", seeds=5),
    ),
}  # fmt: skip


def main(config: Config) -> Result:
    """Races the schedules and draws."""
    with open_run("schedule_race", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem = ClassificationProblem.of(config)
        steps = len(problem.train) // config.batch_size
        table = named(config.epochs * steps, steps)
        entrants = {
            name: (problem, lambda hyper, make=make: make(hyper["learning_rate"])) for name, make in table.items()
        }
        # The one that depends on more than the step is a constant rate around which the optimizer is slowed down.
        slowed = partial(train.reduce_on_plateau, factor=0.3, patience=1, steps_per_value=steps)
        entrants["plateau"] = replace(problem, wrap_optimizer=slowed), entrants["constant"][1]
        unknown = sorted(set(config.only) - entrants.keys())
        if unknown:
            raise ValueError(f"There is no schedule {', '.join(unknown)}. Valid are: {', '.join(entrants)}.")
        return race(run, {name: entrants[name] for name in config.only or entrants}, config.epochs, draw=draw)


def named(total: int, epoch: int) -> dict[str, Callable[[Any], optax.Schedule]]:
    """Name -> (peak rate -> schedule) for a run of `total` steps, `epoch` of them an epoch."""
    warm = max(1, total // 10)
    return {
        "constant": schedules.constant,
        "step": lambda peak: schedules.step_decay(peak, 0.1, max(1, total // 3)),
        "exponential": lambda peak: schedules.exponential_decay(peak, 0.02 ** (epoch / total), epoch, staircase=True),
        "linear": lambda peak: schedules.linear_decay(peak, total),
        "cosine": lambda peak: schedules.cosine_decay(peak, total),
        "warmup_linear": lambda peak: schedules.warmup(schedules.linear_decay(peak, total - warm), warm),
        "warmup_cosine": lambda peak: schedules.warmup_cosine(peak, warm, total),
        "cosine_restarts": lambda peak: schedules.cosine_restarts(peak, -(-total // 7), 2),
        "triangular": lambda peak: schedules.triangular(0.0, peak, max(1, total // 6)),
        "triangular2": lambda peak: schedules.triangular2(0.0, peak, max(1, total // 6)),
        "one_cycle": lambda peak: schedules.one_cycle(peak, max(1, int(0.3 * total)), total),
        "inverse_time": lambda peak: schedules.inverse_time(peak, max(1, total // 20)),
        "inverse_sqrt": lambda peak: schedules.inverse_sqrt(peak, max(1, total // 20)),
    }


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from the tables alone; the gallery from the formulas."""
    steps = np.arange(600)
    rates = {name: np.asarray(make(1.0)(steps)) for name, make in named(600, 50).items()}
    return draw_race(folder) | {"gallery": plots.gallery(steps, rates)}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("schedule_race"))
