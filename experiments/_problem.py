"""What experiments that train on images share: the problem, from names on the command line to pure pieces.

`ProblemConfig` has the choices that every one of them has, `Problem` what comes of them, whatever the task is: states,
steps, feeds, populations, evaluation. What kind of task it is stays with `_classification` and `_generation`, and what
an experiment is about (its schedule, its budget, its claim) in its own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import optax

from .. import data, schedules, train
from ._population import Population, PopulationConfig, chosen_placement, values
from ._run import RunConfig

OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "nadam", "adamw", "newton_cg", "shampoo"
]


@dataclass(frozen=True)
class ProblemConfig(RunConfig):
    """Data, optimizer and layout."""

    data: str = "digits"
    """digits, tfds:<name> or folder:<path>."""
    data_dir: Path | None = None
    """Where prepared TensorFlow data sets are; by default where tfds has them."""
    image_size: int | None = None
    """Resize and crop to this many pixels a side; needed for sets whose images differ in size."""
    seed: int = 0
    """Of initialisation, order and whatever else is random. The splits do not depend on it."""
    batch_size: int = 64
    """Examples a step, of all devices together."""
    optimizer: OptimizerName = "nesterov"
    """sgd has no momentum."""
    momentum: float = 0.9
    """Of momentum, nesterov and shampoo; the decay of the first moment for adam, nadam and adamw."""
    weight_decay: float = 5e-4
    """Of all parameters but biases, normalisation scales, learned positions and class tokens."""
    clip_norm: float | None = None
    """Largest gradient norm."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are float32."""
    parallel: Literal["jit", "data", "fsdp", "pmap"] = "jit"
    """One device, batch sharded, state sharded too, or replicas. On a CPU all but jit make each core a device, which
    convolutions are faster with."""
    accumulate: int = 1
    """Cut every batch into this many parts and average their gradients."""
    feed: Literal["auto", "resident", "stream"] = "auto"
    """Keep the examples on the devices, or stream them; by default by their size."""
    population: PopulationConfig = field(default_factory=PopulationConfig)
    """Many members at once."""

    @property
    def many_devices(self) -> bool:
        return self.population.active or self.parallel != "jit"

    @property
    def resident(self) -> bool | None:
        """`feed`, as `train.feed` wants it."""
        return {"auto": None, "resident": True, "stream": False}[self.feed]


@dataclass(frozen=True)
class Problem:
    """Data and a task on a layout, ready to train.

    train, validation: the splits to learn and to choose on. The test split is loaded by who reports on it.
    where: the layout.
    augment: (key, batch, hyper) -> batch, or None.
    fixed: hyperparameters of the task besides those of the optimizer.
    optimizer_options: arguments of the optimizer besides those that all have.
    wrap_optimizer: what is put around the optimizer, `train.reduce_on_plateau`.
    """

    config: ProblemConfig
    train: data.Source
    validation: data.Source
    where: train.Layout
    task: train.Task
    augment: Callable[[jax.Array, Any, Any], Any] | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    wrap_optimizer: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda optimizer: optimizer

    def __post_init__(self):
        check_hyper({"weight_decay": [self.config.weight_decay], "momentum": [self.config.momentum]})

    def make_optimizer(self, learning_rate, hyper) -> optax.GradientTransformation:
        """(rate, hyper) -> the optimizer that the config names."""
        make = train.OPTIMIZERS[self.config.optimizer]
        optimizer = make(
            learning_rate, hyper["momentum"], weight_decay=hyper["weight_decay"], clip_norm=self.config.clip_norm,
            **self.optimizer_options,
        )  # fmt: skip
        return self.wrap_optimizer(optimizer)

    def hyper(self, learning_rate: float) -> dict[str, float]:
        """The hyperparameters of a single run."""
        return {
            "learning_rate": learning_rate,
            "weight_decay": self.config.weight_decay,
            "momentum": self.config.momentum,
            **self.fixed,
        }

    def members(self, learning_rate: float) -> train.Members:
        """The members that the config's population names.

        Args:
          learning_rate: of all members, unless the config gives a grid of rates.
        """
        population = self.config.population
        if population.seeds < 1:
            raise ValueError(f"population.seeds is {population.seeds}; it must be at least 1.")
        grid = {}
        for name, single in self.hyper(learning_rate).items():
            text = getattr(population, name, None)
            grid[name] = [single] if text is None else values(text, name.replace("_", " "))
        check_hyper(grid)
        return train.grid(range(self.config.seed, self.config.seed + population.seeds), grid)

    def steps(self, epochs: int) -> int:
        """How many steps so many epochs have."""
        return epochs * (len(self.train) // self.config.batch_size)

    def state(self, learning_rate: float, *, ema: bool = False) -> train.State:
        """The state at step 0."""
        create = train.compile_create(self.task, self.make_optimizer, ema=ema)
        return create(jax.random.key(self.config.seed), self.hyper(learning_rate))

    def step(self, make_schedule, *, ema_decay: float | None = None):
        """The training step with this schedule."""
        return train.make_step(
            self.task,
            self.make_optimizer,
            make_schedule,
            augment=self.augment,
            accumulate=self.config.accumulate,
            ema_decay=ema_decay,
            axis_name=self.where.axis_name,
            gather=self.where.gather,
        )

    def feed(self, make_schedule, *, ema_decay: float | None = None) -> train.Feed:
        """The feed that takes training steps with this schedule."""
        return train.feed(
            self.step(make_schedule, ema_decay=ema_decay),
            self.train,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            where=self.where,
            resident=self.config.resident,
        )

    def population(
        self, members: train.Members, make_schedule, steps: int, file: Path, *, ema_decay: float | None = None
    ) -> Population:
        """A population of this problem, laid out as the config says or a measurement finds fastest.

        Args:
          members: seeds and hyperparameters.
          make_schedule: hyper -> (step -> rate).
          steps: that the run will take.
          file: remembers the choice, so that a resumed run makes the same.
          ema_decay: as of `feed`.
        Raises: ValueError for another layout than jit.
        """
        if self.config.parallel != "jit":  # of one seed too, which `layout` takes for a single run
            raise _not_in_parallel(self.config)
        step = self.step(make_schedule, ema_decay=ema_decay)
        initial = train.create_population(self.task, self.make_optimizer, members, ema=ema_decay is not None)
        feeds: dict[train.Placement, tuple[train.PopulationLayout, train.Feed]] = {}
        # Read once, however many placements are tried.
        examples = self.train.arrays() if train.is_resident(self.train, self.config.resident) else None

        def laid_out(placement: train.Placement):
            if placement not in feeds:
                where = train.population_layout(placement, len(members))
                feeds[placement] = where, train.population_feed(
                    step, self.train, members, where, batch_size=self.config.batch_size,
                    resident=self.config.resident, examples=examples,
                )  # fmt: skip
            return feeds[placement]

        def probe(placement: train.Placement):
            where, feed = laid_out(placement)
            stack = where.place(initial)

            def take(count):
                nonlocal stack
                stack, read = feed.advance(stack, 0, count)
                read()

            return take

        chosen = chosen_placement(self.config.population, len(members), probe, steps, file)
        where, feed = laid_out(chosen)
        return Population(members, where, initial, feed)

    def test_task(self) -> train.Task:
        """What the test split is read with."""
        return self.task

    def evaluator(self, source: data.Source):
        """variables -> mean metrics over a split."""
        task = self.test_task() if source.split == "test" else self.task
        return train.evaluator(task, source, batch_size=EVALUATION_BATCH, resident=self.config.resident)


EVALUATION_BATCH = 256


def check_hyper(hyper: Mapping[str, Sequence[float]]) -> None:
    """Raises ValueError for a value that a hyperparameter of the optimizer can't have: traced, none is checked."""
    valid = {
        "learning_rate": ("positive and finite", lambda value: 0 < value < math.inf),
        "weight_decay": ("at least 0 and finite", lambda value: 0 <= value < math.inf),
        "momentum": ("in [0, 1)", lambda value: 0 <= value < 1),
    }
    for name, (described, holds) in valid.items():
        for value in hyper.get(name, ()):
            if not holds(value):
                raise ValueError(f"{name} is {value}; it must be {described}.")


def load(config: ProblemConfig, split: str) -> data.Source:
    """One split of the config's data."""
    return data.load(config.data, split, data_dir=config.data_dir, image_size=config.image_size)


def layout(config: ProblemConfig) -> train.Layout:
    """The layout that a config names.

    Raises: ValueError if the batch does not fit it, or a population is asked for besides.
    """
    if config.population.active and config.parallel != "jit":
        raise _not_in_parallel(config)
    where = train.layout(config.parallel)
    train.check_batch_size(config.batch_size, where.devices, config.accumulate)
    return where


def require_population_of_seeds(config: ProblemConfig) -> None:
    """For experiments that always train a population, whose own choices are what members differ by besides their seeds.

    Raises: ValueError if the population has a grid, or another layout than jit is asked for.
    """
    if config.population.has_grid:
        raise ValueError("The members of this experiment differ by their seeds alone; give --population.seeds.")
    if config.parallel != "jit":
        raise _not_in_parallel(config)


def _not_in_parallel(config: ProblemConfig) -> ValueError:
    return ValueError(
        f"parallel is {config.parallel!r}; a population spreads whole members over the devices and wants jit."
    )


def warmup_cosine(
    problem: Problem, epochs: int, *, warmup_fraction: float | None = None, final_rate: float = 0.0
) -> Callable:
    """hyper -> warm-up, then a cosine, over so many epochs.

    Args:
      problem: what trains.
      epochs: after which the cosine ends.
      warmup_fraction: of the steps, in [0, 1); None for a tenth, rounded down.
      final_rate: where the cosine ends, as a part of the peak, in [0, 1].
    Raises: ValueError for another final rate, no epochs, or a warm-up that is not a part of the steps.
    """
    train.check_counts(epochs=epochs)
    if warmup_fraction is not None and not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction is {warmup_fraction}; it must be in [0, 1).")
    if not 0 <= final_rate <= 1:
        raise ValueError(f"final_rate is {final_rate}; it must be in [0, 1].")
    total = problem.steps(epochs)
    warmup = total // 10 if warmup_fraction is None else round(warmup_fraction * total)

    def schedule(hyper):
        peak = hyper["learning_rate"]
        return schedules.warmup_cosine(peak, warmup, total, end_value=final_rate * peak)

    return schedule
