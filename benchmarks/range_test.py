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
from pathlib import Path

import jax
import numpy as np
from etude import lab, metrics
from etude.experiments import lr_range_test

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
    parser.add_argument("--epochs", type=int, help="passes through the data; by default those of the task")
    parser.add_argument("--seeds", type=int, help="seeds of tests and grid; by default 8, and those of the task")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    print("| data | model | optimizer | suggestion | spread | steepest | best of grid | test, suggestion |", end="")
    print(" test, steepest | test, best | below best |\n|" + "---|" * 11, flush=True)
    for name in options.data:
        for model in options.models:
            for optimizer in OPTIMIZERS:
                print(row(lab.DataOptions(name, options.data_dir), model, optimizer, options), flush=True)


def row(data: lab.DataOptions, model: str, optimizer: str, options: argparse.Namespace) -> str:
    epochs, seeds = TASKS[data.data]
    epochs, seeds = options.epochs or epochs, options.seeds or seeds
    training = lab.classification(
        data=data,
        model=model,
        batch=lab.BatchOptions(),
        optimizer=lab.OptimizerOptions(optimizer),
        update=lab.UpdateOptions(),
    ).training
    with tempfile.TemporaryDirectory() as folder:
        suggested, suggestion, steepest = suggestions(training, Path(folder), options.seeds or 8)
        grid = [2.0**k for k in range(OPTIMIZERS[optimizer] - 7, OPTIMIZERS[optimizer] + 9)]
        population = lab.SeedsOptions(seeds=seeds)
        rates = lab.GridOptions(learning_rate=",".join(str(rate) for rate in [*grid, suggestion, steepest]))
        with open_run(Path(folder) / "grid") as run:
            trained = lab.fit(
                run,
                training,
                training.members(1.0, population, rates),
                lab.warmup_cosine(training.steps(epochs)),
                epochs,
                population=population,
                better=lab.more_accurate,
            )
    fitted = trained.fitted
    validation = fitted.at_best("validation", "accuracy").reshape(-1, seeds).mean(1)
    test = trained.measure(fitted.best, lab.load(data, "test"))["accuracy"].reshape(-1, seeds)
    test = np.where(fitted.diverged_at.reshape(-1, seeds) < 0, test, np.nan).mean(1)
    best = int(np.nanargmax(validation[: len(grid)]))
    cells = [
        data.data,
        model,
        optimizer,
        f"{suggestion:.2g}",
        f"{suggested.max() / suggested.min():.2f}",
        f"{steepest:.2g}",
        f"{grid[best]:.2g}",
        f"{test[-2]:.2%}",
        f"{test[-1]:.2%}",
        f"{test[best]:.2%}",
        f"{test[best] - test[-2]:+.2%}",
    ]
    return "| " + " | ".join(cells) + " |"


def suggestions(training: lab.Training, folder: Path, seeds: int) -> tuple[np.ndarray, float, float]:
    """(suggestions of all seeds and ranges, the suggestion of the range as given, its steepest descent)."""
    found: dict[str, list[metrics.RangeTest]] = {}
    for name, (low, high) in ENDS.items():
        with open_run(folder / name) as run:
            swept = lab.RangeTestOptions(None, low, high, 30)
            rates, losses = lab.range_test(run, training, swept, lab.SeedsOptions(seeds=seeds))
            found[name] = [metrics.range_test(rates, each) for each in losses.T]
    everything = np.array([test.suggestion for tests in found.values() for test in tests], float)
    suggested = np.array([test.suggestion for test in found["as given"]], float)
    steepest = np.array([test.steepest for test in found["as given"]], float)
    return everything, float(np.exp(np.log(suggested).mean())), float(np.exp(np.log(steepest).mean()))


def open_run(folder: Path):
    """A run in a folder, for its journal and its tables."""
    return lab.open_run("range_test", lab.override(lr_range_test.Config(), out=folder))


if __name__ == "__main__":
    main()
