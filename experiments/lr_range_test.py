"""Find a learning rate in one short run: the rate grows every step, the loss says where it descends and diverges.

The lecture's single-pass procedure (Smith 2017, section 3.3) for any model and data set by name. Answer:
result.json's "suggestion", among the rates at which the loss is lowest, and "steepest", the lecture's choice;
figures/range_test.png shows both and the three regions; range_test.csv has the curves. With several seeds
(--population.seeds) it shows their median and spread, and the numbers are geometric means over the seeds.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .. import metrics, plots
from ._classification import ClassificationConfig, ClassificationProblem, range_test
from ._population import PopulationConfig, read_csv
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
    "demo": Config(preset="demo", population=PopulationConfig(seeds=8)),
    "paper": Config(
        preset="paper", data="tfds:cifar10", model="resnet56", batch_size=128, steps_per_decade=150,
        population=PopulationConfig(seeds=8),
    ),
}  # fmt: skip


def main(config: Config) -> Result:
    """Sweeps with every seed, analyses and draws."""
    with open_run("lr_range_test", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        if config.population.learning_rate is not None:
            raise ValueError(
                "A range test sweeps the learning rate: give --lowest and --highest, and no grid of rates."
            )
        rates, losses = range_test(
            ClassificationProblem.of(config), config.lowest, config.highest, config.steps_per_decade,
            run.folder / "range_test.csv", run.journal,
        )  # fmt: skip
        tests = [metrics.range_test(rates, each) for each in losses.T]
        found = [test for test in tests if test.suggestion is not None]
        for test in tests:
            if test.suggestion is None:
                run.journal.say(f"A seed without a suggestion: {test.reason}")

        def mean(name):
            values = [getattr(test, name) for test in found if getattr(test, name) is not None]
            return {name: float(np.exp(np.mean(np.log(values))))} if values else {}

        suggestions = np.array([test.suggestion for test in found])
        spread = float(suggestions.max() / suggestions.min()) if len(found) else math.inf
        measured = {}
        for name in ("suggestion", "steepest", "descent_start", "minimum", "divergence"):
            measured |= mean(name)
        return run.finish(
            measured | ({"suggestion_low": suggestions.min(), "suggestion_high": suggestions.max()} if found else {}),
            draw(run.folder),
            [
                Claim("share of seeds whose curve has a clear descent", len(found) / len(tests), "1", found == tests),
                *([Claim("suggestions, highest over lowest", spread, "<= 2", spread <= 2)] if len(found) > 1 else []),
            ],
        )


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from range_test.csv alone."""
    table = read_csv(folder / "range_test.csv")
    rates = table.pop("learning_rate")
    tests = [metrics.range_test(rates, losses) for losses in table.values()]
    if len(tests) == 1:
        return {"range_test": plots.range_test(tests[0], chosen=tests[0].suggestion)}
    return {"range_test": plots.range_tests(tests)}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("lr_range_test"))
