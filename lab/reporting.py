"""What is reported of trained classifiers: the numbers of the test split, read once, and the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from .. import data, plots
from .classifier import Classifier
from .options import SeedsOptions
from .trained import Trained
from .training import Schedule


def report_classifier(
    classifier: Classifier, trained: Trained, test: data.Source, schedule: Schedule, population: SeedsOptions | None
) -> tuple[dict[str, float], dict[str, Figure]]:
    """(numbers, figures) of a trained classifier, or of the hyperparameters that a population chose on validation data.

    Args:
      classifier: what was trained.
      trained: how.
      test: the test split, which is read here, once.
      schedule: hyper -> (step -> learning rate).
      population: number of seeds of each setting; None for a single run.
    """
    if population is None:
        values, figures = _report_one(classifier, trained, test, schedule)
    else:
        values, figures = _report_members(classifier, trained, test, population.seeds)
    return values | classifier.training.report_start(), figures


def _report_one(classifier: Classifier, trained: Trained, test: data.Source, schedule: Schedule):
    fitted, training = trained.fitted, classifier.training
    measured = trained.measure(fitted.best, test, classifier.test_task)
    peak = float(trained.members.hyper["learning_rate"][0])
    values = {
        "test_accuracy": float(measured["accuracy"][0]),
        "test_loss": float(measured["loss"][0]),
        "validation_accuracy": float(fitted.at_best("validation", "accuracy")),
        "train_loss": float(fitted.at_best("train", "loss")),
        "learning_rate": peak,
        "epochs": len(fitted.epochs),
    }
    steps = np.arange(training.steps(len(fitted.epochs)))
    figures = {
        "learning_curves": plots.learning_curves(
            curves(trained, "train"), curves(trained, "validation"), best=int(fitted.best_epoch)
        ),
        "schedule": plots.schedule(steps, {"warm-up and cosine": schedule({"learning_rate": peak})(steps)}),
    }
    return values, figures | draw_predictions(classifier.probabilities(fitted.best, test), test)


def _report_members(classifier: Classifier, trained: Trained, test: data.Source, seeds: int):
    """Means over the seeds of the chosen hyperparameters."""
    fitted, members = trained.fitted, trained.members
    rows = trained.chosen_rows(seeds)
    measured = {name: x[rows] for name, x in trained.measure(fitted.best, test, classifier.test_task).items()}
    values = {
        "test_accuracy": float(measured["accuracy"].mean()),
        "test_accuracy_std": float(measured["accuracy"].std()),
        "test_loss": float(measured["loss"].mean()),
        "validation_accuracy": float(trained.at_best("validation", "accuracy")[rows].mean()),
        "train_loss": float(trained.at_best("train", "loss")[rows].mean()),
        **{name: float(values[rows.start]) for name, values in members.hyper.items()},
        "members": len(members),
        "diverged": int((fitted.diverged_at >= 0).sum()),
    }
    rates = members.hyper["learning_rate"].reshape(-1, seeds)[:, 0]
    if len(np.unique(rates)) < len(rates) or len(rates) == 1:
        return values, {}
    order = np.argsort(rates)
    errors = 100 * (1 - trained.at_best("validation", "accuracy").reshape(-1, seeds))
    chosen = float(rates[rows.start // seeds])
    figure = plots.grid_search(rates[order], errors[order], chosen, ylabel="validation error (%)", log=False)
    return values, {"grid_search": figure}


def curves(trained: Trained, split: str, number: int = 0) -> dict[str, np.ndarray]:
    """{metric: [epochs]} of one member, and "epoch"."""
    epochs = list(trained.epochs())
    found = {name: np.array([epoch[split][name][number] for epoch in epochs]) for name in ("loss", "accuracy")}
    return found | {"epoch": np.array([epoch["epoch"] for epoch in epochs])}


def draw_predictions(probabilities: np.ndarray, source: data.Source, shown: int = 32) -> dict[str, Figure]:
    """Figures of the first images with their predictions, and of the confusion matrix.

    Args:
      probabilities: [len(source), classes].
      source: the split.
      shown: number of images.
    """
    predicted, examples = probabilities.argmax(-1), [source[i] for i in range(min(shown, len(source)))]
    labels = np.array([source[i]["label"] for i in range(len(source))])
    first: Any = slice(len(examples))
    return {
        "predictions": plots.predictions(
            np.stack([example["image"] for example in examples]),
            labels[first],
            predicted[first],
            probabilities.max(-1)[first],
            source.classes,
        ),
        "confusion_matrix": plots.confusion_matrix(
            confusion_matrix(labels, predicted, labels=range(len(source.classes))), source.classes
        ),
    }
