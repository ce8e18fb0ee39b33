"""Find a learning rate in one short run: the rate grows every step, the loss says where it descends and diverges.

The lecture's single-pass procedure (Smith 2017, section 3.3) for any model and data set by name. Answer:
result.json's "suggestion", among the rates at which the loss is lowest, and "steepest", the lecture's choice;
figures/range_test.png shows both and the three regions; range_test.csv has the curves. With several seeds
(--population.seeds) it shows their median and spread, and the numbers are geometric means over the seeds. Where the
loss still falls at the end of the range, the test goes on to higher rates ("range_extended") and claims nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from .. import lab, metrics, plots


@dataclass(frozen=True)
class Config:
    """The swept range."""

    # The test split is never read, and members differ by their seeds alone.
    REMOVED: ClassVar[Mapping[str, Any]] = {
        **lab.NO_GRID,
        "tta": ...,
    }

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    model: lab.ModelOptions = lab.ModelOptions()
    drops: lab.DropOptions = lab.DropOptions()
    weights: lab.WeightsOptions = lab.WeightsOptions()
    freezing: lab.FreezeOptions = lab.FreezeOptions()
    loss: lab.LossOptions = lab.LossOptions()
    augmentation: lab.AugmentationOptions = lab.AugmentationOptions()
    mixing: lab.MixingOptions = lab.MixingOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    lowest: Annotated[float, lab.POSITIVE] = 1e-5
    """Learning rate of the first step, α_min."""
    highest: Annotated[float, lab.POSITIVE] = 10.0
    """Learning rate of the last step, α_max; the test goes on by itself where the loss still falls there."""
    steps_per_decade: Annotated[int, lab.at_least(1, 10_000)] = 30
    """Number of steps in which the learning rate rises tenfold."""


DEMO = lab.override(Config(), population=lab.SeedsOptions(seeds=8))
PRESETS = {
    "smoke": lab.override(Config(), preset="smoke", steps_per_decade=10),
    "demo": DEMO,
    "paper": lab.override(
        DEMO, preset="paper", data="tfds:cifar10", model="resnet56", batch_size=128, steps_per_decade=150
    ),
}


def main(config: Config) -> lab.Result:
    """Sweeps with every seed, analyzes and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        swept = lab.RangeTestOptions(None, config.lowest, config.highest, config.steps_per_decade)
        lab.check_range(swept)
        lab.population_of(config.population, layout=config.layout)
        classifier = lab.classification(
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
            layout=config.layout,
            accumulate=config.accumulation.accumulate,
            weights=config.weights.weights,
            freeze=config.freezing.freeze,
        )
        if classifier.training.saved is not None:
            classifier.training.saved.announce(run.note)
        rates, losses = lab.range_test(run, classifier.training, swept, config.population)
        tests = [metrics.range_test(rates, each) for each in losses.T]
        for test in tests:
            if test.suggestion is None:
                run.display.say(f"A seed without a suggestion: {test.reason}")
        values, claims = judge(tests, config.highest)
        return run.finish(values | classifier.training.report_start(), draw(run.folder), claims)


def judge(tests: Sequence[metrics.RangeTest], highest: float) -> tuple[dict[str, float], list[lab.Claim]]:
    """(metrics, claims) of the curves of all seeds; the numbers are geometric means over the seeds that have them.

    "highest_rate" is the last rate that was tried. Where it lies above the range that was asked for, or higher ones
    would have to be tried, nothing is claimed: the range was not the right one.
    """
    found = [test.suggestion for test in tests if test.suggestion is not None]
    values = {"highest_rate": float(tests[0].rates[-1])}
    extended = values["highest_rate"] > highest * (1 + 1e-4)
    values["range_extended"] = float(extended)
    for name in ("suggestion", "steepest", "descent_start", "minimum", "divergence"):
        numbers = [getattr(test, name) for test in tests if test.suggestion is not None]
        numbers = [number for number in numbers if number is not None]
        if numbers:
            values[name] = float(np.exp(np.mean(np.log(numbers))))
    if found:
        values |= {"suggestion_low": float(min(found)), "suggestion_high": float(max(found))}
    if extended or any(test.open for test in tests):
        return values, []
    share, clear = len(found) / len(tests), len(found) == len(tests)
    claims = [lab.Claim("share of seeds whose curve has a clear descent", share, "1", clear)]
    if len(found) > 1:
        spread = float(max(found) / min(found))
        claims.append(lab.Claim("suggestions, highest over lowest", spread, "<= 2", spread <= 2))
    return values, claims


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from range_test.csv alone."""
    table = lab.read_csv(folder / "range_test.csv")
    rates = table.pop("learning_rate")
    tests = [metrics.range_test(rates, losses) for losses in table.values()]
    if len(tests) == 1:
        return {"range_test": plots.range_test(tests[0], chosen=tests[0].suggestion)}
    return {"range_test": plots.range_tests(tests)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
