"""Which optimizer is best, each at its own best learning rate?

Every optimizer of the lecture, and two of second order, trains the same network on the same task with warm-up and
cosine decay; each one's rate is chosen on validation data from a grid, all rates and seeds at once. Answer:
figures/race.png and result.json; race.csv has the numbers. Epochs count, not time: Newton-CG and Shampoo pay more for a
step.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

from .. import train
from ._classification import ClassificationConfig, ClassificationProblem
from ._population import PopulationConfig
from ._problem import warmup_cosine
from ._race import draw_race, race
from ._run import Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Budget; --population.learning-rate is the grid."""

    model: str = "mlp"
    """Any name of models.names()."""
    epochs: int = 12
    """Passes through the training split."""
    only: tuple[str, ...] = ()
    """Race these optimizers only; all by default."""
    population: PopulationConfig = field(default_factory=lambda: PopulationConfig(learning_rate="2**-12:2**1", seeds=3))
    """The grid, wide enough for the rates of SGD and of Adam."""


PRESETS = {
    "smoke": Config(
        preset="smoke", epochs=2, only=("sgd", "adam"),
        population=PopulationConfig(learning_rate="2**-8:2**-2:3", seeds=2),
    ),
    "demo": Config(preset="demo"),
    "paper": Config(
        preset="paper", data="tfds:cifar10", model="resnet20", epochs=100, batch_size=128, flip=True,
        population=PopulationConfig(learning_rate="2**-14:2**1", seeds=5),
    ),
}  # fmt: skip


def main(config: Config) -> Result:
    """Races the optimizers and draws."""
    with open_run("optimizer_race", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        unknown = sorted(set(config.only) - train.OPTIMIZERS.keys())
        if unknown:
            raise ValueError(f"There is no optimizer {', '.join(unknown)}. Valid are: {', '.join(train.OPTIMIZERS)}.")
        problem = ClassificationProblem.of(config)
        schedule = warmup_cosine(problem, config.epochs)
        entrants = {
            name: (replace(problem, config=replace(config, optimizer=name)), schedule)
            for name in config.only or train.OPTIMIZERS
        }
        return race(run, entrants, config.epochs)


draw = draw_race


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("optimizer_race"))
