"""Find a learning rate in one short run: the rate grows every step, the loss says where it descends and diverges.

The lecture's single-pass procedure (Smith 2017, section 3.3) for any model and data set by name. Answer:
result.json's "suggestion", the middle of the rates at which the loss is lowest, and "steepest_descent", the lecture's
choice; figures/range_test.png shows both and the three regions; range_test.csv has the curve.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .. import plots
from ._classification import ClassificationConfig, Problem, range_test
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """The swept range."""

    lowest: float = 1e-5
    """Rate of the first step, α_min."""
    highest: float = 10.0
    """Rate of the last step, α_max."""
    steps_per_decade: int = 30
    """How slowly the rate grows: by 1/γ = 10^(1/steps_per_decade) a step."""


PRESETS = {
    "smoke": Config(preset="smoke", steps_per_decade=10),
    "demo": Config(preset="demo"),
    "paper": Config(preset="paper", data="tfds:cifar10", model="resnet56", batch_size=128, steps_per_decade=150),
}


def main(config: Config) -> Result:
    """Sweeps, analyses and draws."""
    with open_run("lr_range_test", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem = Problem.of(config)
        curve = range_test(
            problem, config.lowest, config.highest, config.steps_per_decade, run.folder / "range_test.csv", run.journal
        )
        if curve.suggestion is None:
            run.journal.say(f"No suggestion: {curve.reason}")
        rates = {
            "suggestion": curve.suggestion,
            "steepest_descent": curve.steepest,
            "descent_start": curve.descent_start,
            "minimum": curve.minimum,
            "divergence": curve.divergence,
        }
        return run.finish(
            {name: rate for name, rate in rates.items() if rate is not None},
            {"range_test": plots.range_test(curve, chosen=curve.suggestion)},
            [
                Claim(
                    "the curve has a clear descent",
                    float(curve.suggestion is not None),
                    "1",
                    curve.suggestion is not None,
                )
            ],
        )


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("lr_range_test"))
