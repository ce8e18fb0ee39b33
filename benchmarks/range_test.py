"""Does the rate that a range test suggests train as well as the best rate of a grid, and is it stable?

For each task: range tests with 8 seeds over 1e-5 … 10 and with each end moved by a factor of 10 in and out; then one
population of 16 rates, doublings around 2^-9 for Adam and 2^-6 for SGD, and the suggestion (geometric mean over the
seeds) and the steepest descent besides, with several seeds each, warm-up and cosine. The best rate of the grid is
chosen on validation data; test accuracies are means over the seeds.

Read: `below best` is the test accuracy of the best rate of the grid minus that of the suggestion, which should be at
most 0.5 %; `spread` is the highest over the lowest suggestion of any seed and any ends, at most 2. Prints the table of
docs/learning_rates.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from etude import metrics, schedules, train
from etude.experiments._classification import ClassificationConfig, ClassificationProblem, range_test
from etude.experiments._population import PopulationConfig
from etude.experiments._problem import EVALUATION_BATCH, load

TASKS = {  # data set -> (epochs, seeds of the grid)
    "digits": (40, 8),
    "tfds:fashion_mnist": (3, 3),
}
OPTIMIZERS = {"nesterov": -6, "adam": -9}
ENDS = {"as given": (1e-5, 10.0), "inwards": (1e-4, 1.0), "outwards": (1e-6, 100.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", nargs="+", default=["mlp"])
    parser.add_argument("--data", nargs="+", default=list(TASKS), choices=list(TASKS))
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    print("| data | model | optimizer | suggestion | spread | steepest | best of grid | test, suggestion |", end="")
    print(" test, steepest | test, best | below best |\n|" + "---|" * 11, flush=True)
    for data in options.data:
        for model in options.models:
            for optimizer in OPTIMIZERS:
                config = ClassificationConfig(
                    data=data, data_dir=options.data_dir, model=model, optimizer=optimizer,
                    population=PopulationConfig(seeds=8),
                )  # fmt: skip
                print(row(config), flush=True)


def row(config: ClassificationConfig) -> str:
    problem = ClassificationProblem.of(config)
    epochs, seeds = TASKS[config.data]
    found: dict[str, list[metrics.RangeTest]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (low, high) in ENDS.items():
            rates, losses = range_test(problem, low, high, 30, Path(folder) / f"{name}.csv", train.Journal())
            found[name] = [metrics.range_test(rates, each) for each in losses.T]
    suggested = {name: np.array([test.suggestion for test in tests], float) for name, tests in found.items()}
    everything = np.concatenate(list(suggested.values()))
    suggestion = float(np.exp(np.log(suggested["as given"]).mean()))
    steepest = float(np.exp(np.mean([np.log(test.steepest) for test in found["as given"]])))

    centre = OPTIMIZERS[config.optimizer]
    grid = [2.0**k for k in range(centre - 7, centre + 9)]
    problem = replace(problem, config=replace(config, population=PopulationConfig(seeds=seeds)))
    hyper = {name: [value] for name, value in problem.hyper(0.0).items()} | {
        "learning_rate": [*grid, suggestion, steepest]
    }
    total = epochs * (len(problem.train) // config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        population = problem.population(
            train.grid(range(seeds), hyper),
            lambda hyper: schedules.warmup_cosine(hyper["learning_rate"], round(0.1 * total), total),
            total,
            Path(folder) / "placement.json",
        )

    def evaluator(source):
        return train.population_evaluator(problem.task, source, population.where, batch_size=EVALUATION_BATCH)

    fitted = train.fit_population(
        population.initial, population.feed, population.where, epochs=epochs, validate=evaluator(problem.validation),
        better=lambda validation: (validation["accuracy"], -validation["loss"]),
    )  # fmt: skip
    validation = fitted.at_best("validation", "accuracy").reshape(-1, seeds).mean(1)
    test = evaluator(load(config, "test"))(population.where.place(fitted.best))["accuracy"].reshape(-1, seeds)
    test = np.where(fitted.diverged_at.reshape(-1, seeds) < 0, test, np.nan).mean(1)
    best = int(np.nanargmax(validation[: len(grid)]))
    cells = [
        config.data, config.model, config.optimizer, f"{suggestion:.2g}", f"{everything.max() / everything.min():.2f}",
        f"{steepest:.2g}", f"{grid[best]:.2g}", f"{test[-2]:.2%}", f"{test[-1]:.2%}", f"{test[best]:.2%}",
        f"{test[best] - test[-2]:+.2%}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
