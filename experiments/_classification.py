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
from ._members import fit_members
from ._population import write_csv
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
        if models.takes_time(model):
            raise ValueError(
                f"{config.model} removes noise and does not classify; `etude diffusion` trains such networks."
            )
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
        """The task, with the voters of `test_views`."""
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


def _decades(lowest: float, highest: float) -> float:
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"The swept range is {lowest} to {highest}; wanted: 0 < lowest < highest.")
    return math.log10(highest / lowest)
