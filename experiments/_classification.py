"""What experiments that classify images share: the problem, from names on the command line to pure pieces.

`ClassificationConfig` has the choices that every one of them has, and `Problem` what comes of them. What an
experiment is about (its schedule, its budget, its claim) stays in its own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from .. import data, metrics, models, plots, schedules, train
from ..data import augment
from ._augmentation import AugmentationConfig, augmentation, of_images, views
from ._population import Population, PopulationConfig, chosen_placement, values, write_csv, write_members
from ._run import Result, Run, RunConfig


@dataclass(frozen=True)
class ClassificationConfig(AugmentationConfig, RunConfig):
    """Data, model, optimizer and layout of an image classifier."""

    data: str = "digits"
    """digits, tfds:<name> or folder:<path>."""
    data_dir: Path | None = None
    """Where prepared TensorFlow data sets are; by default where tfds has them."""
    image_size: int | None = None
    """Resize and crop to this many pixels a side; needed for sets whose images differ in size."""
    model: str = "resnet8"
    """A name of models.names(): resnet20, resnet50, vit_tiny_patch4_32, …; an unknown one lists them all."""
    seed: int = 0
    """Of initialisation, order and augmentation. The splits do not depend on it."""
    batch_size: int = 64
    """Examples a step, of all devices together."""
    optimizer: Literal[
        "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "nadam", "adamw", "newton_cg", "shampoo"
    ] = "nesterov"
    """sgd has no momentum."""
    momentum: float = 0.9
    """Of momentum, nesterov and shampoo; the decay of the first moment for adam, nadam and adamw."""
    weight_decay: float = 5e-4
    """Of all parameters but biases and normalisation scales."""
    clip_norm: float | None = None
    """Largest gradient norm."""
    label_smoothing: float = 0.0
    """Mass moved from the label to all classes alike, in training."""
    dropout: float | None = None
    """Rate of dropout, where the model has it; by default its own."""
    drop_path: float | None = None
    """Rate of stochastic depth of the last block, where the model has it; by default its own."""
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


@dataclass(frozen=True)
class Problem:
    """A classification problem, ready to train on.

    train, validation: the splits to learn and to choose on. The test split is loaded by who reports on it.
    where: the layout. resident: as `train.feed` wants it.
    augment: (key, batch, hyper) -> batch, or None.
    wrap_optimizer: what is put around the optimizer, `train.reduce_on_plateau`.
    """

    config: ClassificationConfig
    train: data.Source
    validation: data.Source
    where: train.Layout
    model: nn.Module
    task: train.Task
    preprocess: Callable[[jax.Array], jax.Array]
    resident: bool | None
    augment: Callable[[jax.Array, Any, Any], Any] | None = None
    wrap_optimizer: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda optimizer: optimizer

    @classmethod
    def of(cls, config: ClassificationConfig) -> Problem:
        """Loads the data and builds the model that a config names.

        Raises: ValueError or FileNotFoundError for a name, split or number that is not valid.
        """
        if config.population.active and config.parallel != "jit":
            raise ValueError(
                f"parallel is {config.parallel!r}; a population spreads whole members over the devices and wants jit."
            )
        where = train.layout(config.parallel)
        train.check_batch_size(config.batch_size, where.devices, config.accumulate)
        source = load(config, "train")
        rates = {"dropout": config.dropout, "drop_path": config.drop_path}
        given = {name: rate for name, rate in rates.items() if rate is not None}
        model = models.create(config.model, num_classes=len(source.classes), dtype=jnp.dtype(config.dtype), **given)
        if "axis_name" in models.fields(model):
            model = model.clone(axis_name=where.axis_name)
        mean, std = data.moments(source)
        preprocess = partial(augment.normalise, mean=mean, std=std)
        task = train.classification(
            model,
            source.element_spec["image"].shape,
            preprocess=preprocess,
            label_smoothing=config.label_smoothing,
        )
        resident = {"auto": None, "resident": True, "stream": False}[config.feed]
        augmented = augmentation(config, source)
        validation = load(config, "validation")
        problem = cls(config, source, validation, where, model, task, preprocess, resident, augmented)
        problem.test_views()  # what is wrong with them must not come out after the training
        return problem

    def make_optimizer(self, learning_rate, hyper) -> optax.GradientTransformation:
        """(rate, hyper) -> the optimizer that the config names."""
        make = train.OPTIMIZERS[self.config.optimizer]
        optimizer = make(
            learning_rate, hyper["momentum"], weight_decay=hyper["weight_decay"], clip_norm=self.config.clip_norm
        )
        return self.wrap_optimizer(optimizer)

    def hyper(self, learning_rate: float) -> dict[str, float]:
        """The hyperparameters of a single run."""
        return {
            "learning_rate": learning_rate,
            "weight_decay": self.config.weight_decay,
            "momentum": self.config.momentum,
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
            text = getattr(population, name)
            grid[name] = [single] if text is None else values(text, name.replace("_", " "))
        return train.grid(range(self.config.seed, self.config.seed + population.seeds), grid)

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
        )

    def feed(self, make_schedule, *, ema_decay: float | None = None) -> train.Feed:
        """The feed that takes training steps with this schedule."""
        return train.feed(
            self.step(make_schedule, ema_decay=ema_decay),
            self.train,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            where=self.where,
            resident=self.resident,
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
        """
        step = self.step(make_schedule, ema_decay=ema_decay)
        initial = train.create_population(self.task, self.make_optimizer, members, ema=ema_decay is not None)
        feeds: dict[train.Placement, tuple[train.PopulationLayout, train.Feed]] = {}
        # Read once, however many placements are tried.
        examples = self.train.arrays() if train.is_resident(self.train, self.resident) else None

        def laid_out(placement: train.Placement):
            if placement not in feeds:
                where = train.population_layout(placement, len(members))
                feeds[placement] = where, train.population_feed(
                    step, self.train, members, where, batch_size=self.config.batch_size,
                    resident=self.resident, examples=examples,
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

    def evaluator(self, source: data.Source):
        """variables -> mean loss and accuracy over a split."""
        task = self.test_task() if source.split == "test" else self.task
        return train.evaluator(task, source, batch_size=EVALUATION_BATCH, resident=self.resident)

    def probabilities(self, variables: train.Variables, source: data.Source) -> np.ndarray:
        """Class probabilities of every example of a split, [len(source), classes]; as `evaluator` has them."""
        voters = self.test_views() if source.split == "test" else None

        def predict(variables, batch):
            images = batch["image"][None] if voters is None else voters(batch)
            logits = jax.lax.map(lambda x: self.model.apply(variables, self.preprocess(x), train=False), images)
            return {"probabilities": metrics.mean_vote(jax.nn.softmax(logits))}

        rows = train.map_examples(predict, source, batch_size=EVALUATION_BATCH, resident=self.resident)
        return rows(variables)["probabilities"]

    def test_task(self) -> train.Task:
        """What the test split is read with: the task, with the voters of `test_views`."""
        voters = self.test_views()
        if voters is None:
            return self.task
        shape = self.train.element_spec["image"].shape
        return train.classification(self.model, shape, preprocess=self.preprocess, views=voters)

    def test_views(self) -> Callable[[Any], jax.Array] | None:
        """batch -> images [copies, batch, …] whose predictions are averaged; None where the config asks for none.

        Raises: ValueError for a negative number of copies, or copies that nothing would make differ.
        """
        copies, change = self.config.tta, of_images(self.config, self.train)
        if copies < 0 or (copies and change is None):
            raise ValueError(
                f"tta is {copies}; wanted: 0 or more copies, and an augmentation of images that makes them differ."
            )
        return partial(views, change, copies=copies) if change is not None and copies else None


EVALUATION_BATCH = 256


def load(config: ClassificationConfig, split: str) -> data.Source:
    """One split of the config's data."""
    return data.load(config.data, split, data_dir=config.data_dir, image_size=config.image_size)


def range_test(
    problem: Problem, lowest: float, highest: float, steps_per_decade: int, csv_file: Path, journal: train.Journal
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a learning-rate range test, or reads what an earlier start of the same run measured.

    Args:
      problem: what to train on; the state it trains is thrown away.
      lowest: rate of the first step.
      highest: rate of the last step.
      steps_per_decade: how slowly the rate grows: by 1/γ = 10^(1/steps_per_decade) a step. Steps per decade and not in
        all, so that moving an end of the range does not change what is measured in between.
      csv_file: the measured curves: columns learning_rate and a loss for each seed.
      journal: shows how far it is.
    Returns: (rates [n], losses [n, seeds]).
    """
    if steps_per_decade < 1:
        raise ValueError(f"The range test has {steps_per_decade} steps per decade; it needs at least 1.")
    config = problem.config
    seeds = range(config.seed, config.seed + config.population.seeds)
    if not csv_file.exists():
        steps = 1 + round(steps_per_decade * _decades(lowest, highest))
        rate = schedules.exponential_sweep(lowest, highest, steps)
        if len(seeds) > 1:
            members = train.grid(seeds, {name: [value] for name, value in problem.hyper(lowest).items()})
            population = problem.population(members, lambda hyper: rate, steps, csv_file.with_suffix(".json"))
            losses = train.sweep(population.place(), population.feed, steps=steps, journal=journal)
        else:
            placed = problem.where.place_state(problem.state(lowest))
            losses = train.sweep(placed, problem.feed(lambda hyper: rate), steps=steps, journal=journal)[:, None]
        names = ("learning_rate", *(f"loss_seed{seed}" for seed in seeds))
        write_csv(csv_file, names, np.column_stack([rate(np.arange(len(losses))), losses]))
    measured = np.loadtxt(csv_file, delimiter=",", skiprows=1, ndmin=2)
    return measured[:, 0], measured[:, 1:]


def train_population(
    run: Run,
    problem: Problem,
    make_schedule: Callable,
    learning_rate: float,
    epochs: int,
    *,
    ema_decay: float | None,
    better: Callable,
    figures: dict[str, Figure],
) -> Result:
    """Trains a population, chooses hyperparameters on validation data, and tests the seeds of the chosen ones once.

    Args:
      run: open.
      problem: what to train on; its config names the members.
      make_schedule: hyper -> (step -> learning rate).
      learning_rate: of all members, unless the config gives a grid.
      epochs: passes through the training split.
      ema_decay: as of `Problem.feed`.
      better: as of `train.fit`.
      figures: what else to save.
    Returns: the finished run's result; means over the seeds of the chosen hyperparameters.
    """
    trained = fit_members(
        run, problem, problem.members(learning_rate), make_schedule, epochs, name="population", ema_decay=ema_decay,
        better=better,
    )  # fmt: skip
    members, fitted, seeds = trained.members, trained.fitted, problem.config.population.seeds
    rows = trained.chosen_rows()
    test = trained.test(rows)
    rates = members.hyper["learning_rate"].reshape(-1, seeds)[:, 0]
    if len(np.unique(rates)) == len(rates) > 1:
        order = np.argsort(rates)
        errors = 100 * (1 - fitted.at_best("validation", "accuracy").reshape(-1, seeds))
        figures["grid_search"] = plots.grid_search(
            rates[order], errors[order], float(rates[rows.start // seeds]), ylabel="validation error (%)", log=False
        )
    return run.finish(
        {
            "test_accuracy": float(test["accuracy"].mean()),
            "test_accuracy_std": float(test["accuracy"].std()),
            "test_loss": float(test["loss"].mean()),
            "validation_accuracy": float(fitted.at_best("validation", "accuracy")[rows].mean()),
            "train_loss": float(fitted.at_best("train", "loss")[rows].mean()),
            **{name: float(values[rows.start]) for name, values in members.hyper.items()},
            "members": len(members),
            "diverged": int((fitted.diverged_at >= 0).sum()),
        },
        figures,
    )


@dataclass(frozen=True)
class Trained:
    """A population that was trained on a problem."""

    problem: Problem
    members: train.Members
    where: train.PopulationLayout
    fitted: train.PopulationFitted

    def chosen_rows(self) -> slice:
        """The members (one per seed) of the hyperparameters with the best mean validation accuracy, then loss.

        Raises: `train.Diverged` if a seed of each setting did.
        """
        seeds = self.problem.config.population.seeds
        accuracy, loss = (
            self.fitted.at_best("validation", name).reshape(-1, seeds).mean(1) for name in ("accuracy", "loss")
        )
        usable = np.flatnonzero(np.isfinite(accuracy))
        if not len(usable):
            raise train.Diverged("A seed of every setting diverged. Give lower learning rates.")
        best = max(usable, key=lambda i: (accuracy[i], -loss[i]))
        return slice(best * seeds, (best + 1) * seeds)

    def test(self, rows: slice) -> dict[str, np.ndarray]:
        """The best checkpoints of some members on the test split: {metric: [rows]}."""
        source = load(self.problem.config, "test")
        task = self.problem.test_task()
        evaluate = train.population_evaluator(task, source, self.where, batch_size=EVALUATION_BATCH)
        return {name: x[rows] for name, x in evaluate(self.where.place(self.fitted.best)).items()}


def fit_members(
    run: Run,
    problem: Problem,
    members: train.Members,
    make_schedule: Callable,
    epochs: int,
    *,
    name: str,
    ema_decay: float | None = None,
    better: Callable,
) -> Trained:
    """Trains a population, with checkpoints, and writes what each member came to.

    Args:
      run: open.
      problem: what to train on.
      members: seeds and hyperparameters, as `Problem.members` gives them.
      make_schedule: hyper -> (step -> learning rate).
      epochs: passes through the training split.
      name: of the table, `<name>.csv`.
      ema_decay: as of `Problem.feed`.
      better: as of `train.fit`.
    """
    config = problem.config
    steps = epochs * (len(problem.train) // config.batch_size)
    population = problem.population(
        members, make_schedule, steps, run.folder / "placement.json", ema_decay=ema_decay
    )  # fmt: skip
    where = population.where
    fitted = train.fit_population(
        population.initial,
        population.feed,
        where,
        epochs=epochs,
        validate=train.population_evaluator(
            problem.task, problem.validation, where, batch_size=EVALUATION_BATCH, resident=problem.resident
        ),
        better=better,
        checkpoints=run.checkpoints(),
        journal=run.journal,
        title=f"{len(members)} × {config.model} on {config.data}",
    )
    write_members(run.folder / f"{name}.csv", members, fitted)
    return Trained(problem, members, where, fitted)


def _decades(lowest: float, highest: float) -> float:
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"The swept range is {lowest} to {highest}; wanted: 0 < lowest < highest.")
    return math.log10(highest / lowest)
