"""The whole training of one classifier: a range test picks the rate, validation the checkpoint, the test is read once.

A learning-rate range test chooses the peak rate, unless it is given; the network trains with linear warm-up and cosine
decay; the checkpoint of the best validation accuracy is evaluated once on the held-out test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from .. import metrics, plots, train
from ._classification import ClassificationConfig, ClassificationProblem, range_test, train_population
from ._problem import check_hyper, load, warmup_cosine
from ._run import Result, open_run


@dataclass(frozen=True)
class TrainingConfig(ClassificationConfig):
    """Budget and schedule."""

    epochs: int = 40
    """Passes through the training split."""
    learning_rate: float | None = None
    """Peak rate; by default the suggestion of a range test."""
    warmup_fraction: float = 0.1
    """Part of the steps in which the rate rises from 0 to its peak."""
    ema_decay: float | None = None
    """Predict with an exponential moving average of the variables."""
    patience: int | None = None
    """Stop after this many epochs without a better validation accuracy."""
    checkpoint_every: int | None = None
    """Save after this many steps, besides after every epoch."""
    range_lowest: float = 1e-4
    """First rate of the range test."""
    range_highest: float = 10.0
    """Last rate of the range test."""
    range_steps_per_decade: int = 30
    """How slowly the rate of the range test grows."""


def train_classifier(experiment: str, config: TrainingConfig, default: TrainingConfig) -> Result:
    """Trains, evaluates and reports; resumes or repeats the result where the run's folder has one.

    Args:
      experiment: its name.
      config: the run's config.
      default: the preset it was derived from.
    """
    with open_run(experiment, config, default) as run:
        if run.result:
            return run.result
        # What is wrong with the training must not come out after the range test.
        train.check_counts(epochs=config.epochs, patience=config.patience, checkpoint_every=config.checkpoint_every)
        train.check_ema_decay(config.ema_decay)
        if config.population.active and config.patience is not None:
            raise ValueError(f"patience is {config.patience}; the members of a population all train to the last epoch.")
        if config.learning_rate is not None:
            check_hyper({"learning_rate": [config.learning_rate]})
        problem = ClassificationProblem.of(config)
        schedule = warmup_cosine(problem, config.epochs, warmup_fraction=config.warmup_fraction)
        figures = {}

        peak = config.learning_rate
        if peak is None and config.population.learning_rate is not None:
            peak = 0.0  # every member has a rate of its own
        if peak is None:
            rates, losses = range_test(
                problem, config.range_lowest, config.range_highest, config.range_steps_per_decade,
                run.folder / "range_test.csv", train.Journal(console=run.console),
            )  # fmt: skip
            curve = metrics.range_test(rates, losses[:, 0])
            if curve.suggestion is None:
                raise ValueError(f"The range test suggests no rate: {curve.reason} Give one with --learning-rate.")
            peak = curve.suggestion
            figures["range_test"] = plots.range_test(curve, chosen=peak)
            run.journal.say(f"The range test suggests a learning rate of {peak:.3g}.")

        if config.population.active:
            return train_population(
                run, problem, schedule, peak, config.epochs, ema_decay=config.ema_decay, better=better, figures=figures
            )
        fitted = train.fit(
            problem.state(peak, ema=config.ema_decay is not None),
            problem.feed(schedule, ema_decay=config.ema_decay),
            problem.where,
            epochs=config.epochs,
            validate=problem.evaluator(problem.validation),
            better=better,
            patience=config.patience,
            checkpoints=run.checkpoints(),
            checkpoint_every=config.checkpoint_every,
            journal=run.journal,
            title=f"{config.model} on {config.data}",
        )

        test = load(config, "test")
        measured = problem.evaluator(test)(fitted.best)
        figures |= _figures(problem, fitted, test, schedule, peak)
        return run.finish(
            {
                "test_accuracy": measured["accuracy"],
                "test_loss": measured["loss"],
                "validation_accuracy": fitted.best_epoch["validation"]["accuracy"],
                "train_loss": fitted.best_epoch["train"]["loss"],
                "learning_rate": peak,
                "epochs": len(fitted.epochs),
            },
            figures,
        )


def better(validation):
    """A small validation split has many ties in accuracy; the loss decides them."""
    return validation["accuracy"], -validation["loss"]


def _figures(problem, fitted, test, schedule, peak) -> dict[str, Any]:
    """Learning curves, schedule, predictions and confusion matrix."""
    probabilities = problem.probabilities(fitted.best, test)
    predicted = probabilities.argmax(-1)
    examples = [test[i] for i in range(min(32, len(test)))]
    labels = np.array([test[i]["label"] for i in range(len(test))])
    steps = np.arange(problem.steps(problem.config.epochs))

    def curves(split):
        return {name: np.array([epoch[split][name] for epoch in fitted.epochs]) for name in ("loss", "accuracy")} | {
            "epoch": np.array([epoch["epoch"] for epoch in fitted.epochs])
        }

    return {
        "learning_curves": plots.learning_curves(
            curves("train"), curves("validation"), best=fitted.best_step / problem.steps(1)
        ),
        "schedule": plots.schedule(steps, {"warm-up and cosine": schedule({"learning_rate": peak})(steps)}),
        "predictions": plots.predictions(
            np.stack([example["image"] for example in examples]),
            labels[: len(examples)],
            predicted[: len(examples)],
            probabilities.max(-1)[: len(examples)],
            test.classes,
        ),
        "confusion_matrix": plots.confusion_matrix(
            confusion_matrix(labels, predicted, labels=range(len(test.classes))), test.classes
        ),
    }
