"""What experiments that classify images share: the classifier as a `Problem`, range tests, populations of classifiers.

What an experiment is about (its schedule, its budget, its claim) stays in its own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import data, metrics, models, plots, schedules, train
from ..data import augment
from ._augmentation import AugmentationConfig, augmentation, of_images, views
from ._population import write_csv, write_members
from ._problem import EVALUATION_BATCH, Problem, ProblemConfig, layout, load
from ._run import Result, Run


@dataclass(frozen=True)
class ClassificationConfig(AugmentationConfig, ProblemConfig):
    """The model, and what only classifiers have."""

    model: str = "resnet8"
    """A name of models.names(): resnet20, resnet50, vit_tiny_patch4_32, …; an unknown one lists them all."""
    label_smoothing: float = 0.0
    """Mass moved from the label to all classes alike, in training."""
    dropout: float | None = None
    """Rate of dropout, where the model has it; by default its own."""
    drop_path: float | None = None
    """Rate of stochastic depth of the last block, where the model has it; by default its own."""


@dataclass(frozen=True, kw_only=True)
class ClassificationProblem(Problem):
    """An image classifier, ready to train."""

    config: ClassificationConfig
    model: nn.Module
    preprocess: Callable[[jax.Array], jax.Array]

    @classmethod
    def of(cls, config: ClassificationConfig) -> ClassificationProblem:
        """Loads the data and builds the model that a config names.

        Raises: ValueError or FileNotFoundError for a name, split or number that is not valid.
        """
        where, source = layout(config), load(config, "train")
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
        problem = cls(
            config=config, train=source, validation=load(config, "validation"), where=where, task=task,
            augment=augmentation(config, source), model=model, preprocess=preprocess,
        )  # fmt: skip
        problem.test_views()  # what is wrong with them must not come out after the training
        return problem

    def evaluator(self, source: data.Source):
        """variables -> mean loss and accuracy over a split, the test split's with voters."""
        task = self.test_task() if source.split == "test" else self.task
        return train.evaluator(task, source, batch_size=EVALUATION_BATCH, resident=self.config.resident)

    def probabilities(self, variables: train.Variables, source: data.Source) -> np.ndarray:
        """Class probabilities of every example of a split, [len(source), classes]; as `evaluator` has them."""
        voters = self.test_views() if source.split == "test" else None

        def predict(variables, batch):
            images = batch["image"][None] if voters is None else voters(batch)
            logits = jax.lax.map(lambda x: self.model.apply(variables, self.preprocess(x), train=False), images)
            return {"probabilities": metrics.mean_vote(jax.nn.softmax(logits))}

        rows = train.map_examples(predict, source, batch_size=EVALUATION_BATCH, resident=self.config.resident)
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


def range_test(
    problem: ClassificationProblem,
    lowest: float,
    highest: float,
    steps_per_decade: int,
    csv_file: Path,
    journal: train.Journal,
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
    problem: ClassificationProblem,
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

    problem: ClassificationProblem
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
    problem: ClassificationProblem,
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
            problem.task, problem.validation, where, batch_size=EVALUATION_BATCH, resident=problem.config.resident
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
