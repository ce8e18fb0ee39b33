"""Does the training loop cost anything? Steps per second of `fit` against the bare compiled step.

The bare step is called back to back on one batch that already lies on the device, with nothing else going on:
no data, no metrics read, no files. `fit` gathers every batch of a shuffled epoch, reads all metrics, writes the
journal and saves checkpoints as it does by default. Both are compiled before the clock starts; runs are interleaved.

Read: `ratio` is fit's steps per second over the bare step's, median of the repeats; the target is >= 0.95.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from etude import lab, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20, help="epochs a timed run")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    print(f"{options.model} on {options.data}, batch {options.batch_size}, {jax.devices()[0].device_kind}")
    for feed in ("resident", "stream"):
        training = lab.classification(
            data=lab.DataOptions(options.data, options.data_dir),
            model=options.model,
            batch=lab.BatchOptions(options.batch_size, feed),
            optimizer=lab.OptimizerOptions(),
            update=lab.UpdateOptions(),
            augmentation=lab.AugmentationOptions(),
        ).training
        bare, fitted = _timers(training, options.epochs)
        bare(), fitted()  # compiles
        pairs = [(bare(), fitted()) for _ in range(options.repeats)]
        ratios = [fit / alone for alone, fit in pairs]
        print(
            f"{feed:>8}: bare {statistics.median(p[0] for p in pairs):8.2f} steps/s, "
            f"fit {statistics.median(p[1] for p in pairs):8.2f} steps/s, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def _timers(training: lab.Training, epochs: int):
    """(bare, fitted): functions that train for some epochs and return their steps per second."""

    def schedule(hyper):
        return lambda step: hyper["learning_rate"]

    start, layout = training.start(training.members(0.01), schedule, training.steps(epochs)), training.layout
    steps = training.steps(epochs)
    step = training.make_step(training.task, training.make_optimizer, schedule, augment=training.augment)
    compiled = layout.compile(step, ("state", "batch"), ("state", "members"))
    count = training.batch.batch_size
    batch = layout.place_batch(training.source.read(np.arange(count)) | {"index": np.arange(count)}, 0)

    def bare() -> float:
        placed = jax.block_until_ready(layout.place_state(start.state))
        began = time.perf_counter()
        for _ in range(steps):
            placed, metrics = compiled(placed, batch)
        jax.block_until_ready((placed, metrics))
        return steps / (time.perf_counter() - began)

    def fitted() -> float:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = train.Checkpoints(Path(folder) / "checkpoints")
            journal = train.Journal(Path(folder))
            began = time.perf_counter()
            train.fit(start.state, start.feed, layout, epochs=epochs, checkpoints=checkpoints, journal=journal)
            seconds = time.perf_counter() - began
            checkpoints.close()
        return steps / seconds

    return bare, fitted


if __name__ == "__main__":
    main()
