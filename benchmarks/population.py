"""Is a population faster than the same runs one after another? 15 rates × 4 seeds of small networks.

Three ways to train the same 60 runs on the same batches: as one population, in the mode that `fastest_placement`
chooses; one after another with our own scanned single run, compiled once; one after another in PyTorch, at the best
of eager and compiled, one and all threads (`benchmarks/peers/torch_runs.py`, run by the Python of --torch, for example
that of an environment with torch alone). No validation, no files. Repeats are interleaved; medians count.

Read: `sequential / population` should be >= 1.6 on 2 cores and never below 1, with compilation (first run of a process,
the measurement of the modes included; reading the data set is not) and without; `torch / population` >= 5. On a GPU the
first should be >= 10.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from etude import data, lab, schedules, train
from etude.train.feed import scan_steps

PROBLEMS = {  # model, data set, epochs
    "mlp, digits": ("mlp", "digits", 80),
    "mlp, fashion_mnist": ("mlp", "tfds:fashion_mnist", 1),
    "convnet, digits": ("convnet", "digits", 20),
}
RATES = [2.0**-k for k in range(15, 0, -1)]
SEEDS = range(4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="passes through the data; by default those of the problem")
    parser.add_argument("--only", choices=list(PROBLEMS), nargs="+", default=list(PROBLEMS))
    parser.add_argument("--torch", help="a Python that has torch; without it there is no such column")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{len(RATES)} rates x {len(SEEDS)} seeds, {jax.device_count()} x {jax.devices()[0].device_kind}")
    for name in options.only:
        compare(name, options)


def compare(name: str, options: argparse.Namespace) -> None:
    model, data_set, epochs = PROBLEMS[name]
    epochs = options.epochs or epochs
    training = lab.classification(
        data=lab.DataOptions(data_set, options.data_dir),
        model=model,
        batch=lab.BatchOptions(),
        optimizer=lab.OptimizerOptions(),
        update=lab.UpdateOptions(),
        augmentation=lab.AugmentationOptions(shift=0),
    ).training
    training = replace(training, source=replace(training.source, records=InMemory(training.source.arrays())))
    steps = training.steps(epochs)
    members = train.grid(SEEDS, {"learning_rate": RATES, **{name: [value] for name, value in training.hyper.items()}})

    population, sequential = Population(training, members, epochs), Sequential(training, members, epochs)
    first = population.seconds(), sequential.seconds()
    rest = [(population.seconds(), sequential.seconds()) for _ in range(options.repeats)]
    warm = [statistics.median(each) for each in zip(*rest, strict=True)]
    print(f"\n{name}: {steps} steps a run; chosen: {population.placement}")
    print(f"{'':>24} {'population':>12} {'sequential':>12} {'ratio':>8}")
    for label, (together, alone) in (("compilation included", first), ("excluded", warm)):
        print(f"{label:>24} {together:>10.2f} s {alone:>10.2f} s {alone / together:>8.2f}", flush=True)
    if options.torch:
        with tempfile.TemporaryDirectory() as folder:
            examples = Path(folder) / "examples.npz"
            np.savez(examples, **training.source.arrays())
            told = {"model": model, "steps": steps, "rates": RATES, "seeds": len(SEEDS), "batch": 64}
            script = Path(__file__).parent / "peers" / "torch_runs.py"
            command = [options.torch, str(script), str(examples), json.dumps(told)]
            ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        label, seconds = f"torch, {found['mode']}", found["seconds"]
        print(f"{label:>24} {warm[0]:>10.2f} s {seconds:>10.2f} s {seconds / warm[0]:>8.2f}", flush=True)


class InMemory:
    """Records that were read before."""

    def __init__(self, arrays):
        self._arrays = arrays

    def __len__(self):
        return len(self._arrays["label"])

    def __getitem__(self, index):
        return {name: array[index] for name, array in self._arrays.items()}


class Population:
    """The 60 runs as one."""

    def __init__(self, training: lab.Training, members: train.Members, epochs: int):
        self._training, self._members, self._epochs = training, members, epochs
        self._start: lab.Start | None = None
        self.placement: dict[str, int] = {}

    def seconds(self) -> float:
        """Of all runs; the first time, with compilation and the measurement of the modes."""
        began = time.perf_counter()
        if self._start is None:
            with tempfile.TemporaryDirectory() as folder:
                file, steps = Path(folder) / "placement.json", self._training.steps(self._epochs)
                population = lab.SeedsOptions(seeds=len(SEEDS))
                self._start = self._training.start(self._members, schedule, steps, population=population, file=file)
                self.placement = json.loads(file.read_text(encoding="utf-8"))
        layout, feed = self._start.layout, self._start.feed
        placed, done, reads = layout.place_state(self._start.state), 0, []
        while done < self._epochs * feed.steps_per_epoch:
            count = min(feed.most, feed.steps_per_epoch - done % feed.steps_per_epoch)
            placed, read = feed.advance(placed, done, count)
            reads.append(read)
            done += count
        for read in reads:
            read()
        jax.block_until_ready(placed)
        return time.perf_counter() - began


class Sequential:
    """The 60 runs one after another, by one compiled loop over the steps of an epoch."""

    def __init__(self, training: lab.Training, members: train.Members, epochs: int):
        self._training, self._members, self._epochs = training, members, epochs
        self._built = None

    def seconds(self) -> float:
        """Of all runs; the first time, with compilation."""
        training, source = self._training, self._training.source
        began = time.perf_counter()
        steps = training.steps(1)
        if self._built is None:
            step = training.make_step(training.task, training.make_optimizer, schedule)
            compiled = jax.jit(scan_steps(step, steps), donate_argnums=0)
            create = train.compile_create(training.task, training.make_optimizer)
            self._built = compiled, create, jax.device_put(source.arrays())
        compiled, create, examples = self._built
        rows: list = []
        for i, seed in enumerate(self._members.seeds.tolist()):
            state = create(jax.random.key(seed), {name: values[i] for name, values in self._members.hyper.items()})
            for epoch in range(self._epochs):
                order = data.epoch_batches(seed, epoch, len(source), training.batch.batch_size, drop_remainder=True)
                state, metrics = compiled(state, examples, jax.device_put(order[None]), 0, epoch * steps, steps)
                rows.append(metrics)
            jax.block_until_ready(state)
        jax.device_get(rows)
        return time.perf_counter() - began


def schedule(hyper):
    return schedules.constant(hyper["learning_rate"])


if __name__ == "__main__":
    main()
