"""What is reported of trained classifiers: the numbers of the test split, read once, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from .. import data, plots
from .classifier import Classifier
from .options import SeedsOptions
from .trained import Trained
from .training import Schedule

Classes = dict[str, dict[str, float]]  # name of a class -> its numbers


def report_classifier(
    classifier: Classifier, trained: Trained, test: data.Source, schedule: Schedule, population: SeedsOptions | None
) -> tuple[dict[str, float], dict[str, plots.Figure], Classes]:
    """What is reported of a trained classifier, or of the hyperparameters that a population chose on validation data.

    Args:
      classifier: what was trained.
      trained: how.
      test: the test split, which is read here, once.
      schedule: hyper -> (step -> learning rate).
      population: number of seeds of each setting; None for a single run.
    Returns: (numbers, figures, numbers of each class). Numbers of a population are means over the seeds.
    """
    rows, predict = trained.reported_rows(population), classifier.predictor(test)
    probabilities = [predict(variables) for variables in trained.best_variables(rows)]
    if population is None:
        values, figures = _report_one(classifier, trained, test, schedule)
        figures |= draw_predictions(probabilities[0], test)
    else:
        values, figures = _report_members(classifier, trained, test, rows)
    macro, classes = class_scores(data.labels(test), [each.argmax(-1) for each in probabilities], test.classes)
    return values | macro | classifier.training.report_start(), figures, classes


def class_scores(
    labels: np.ndarray, predicted: Sequence[np.ndarray], names: Sequence[str]
) -> tuple[dict[str, float], Classes]:
    """Accuracy (recall), precision and F1 of each class, and their means over the classes.

    Args:
      labels: true classes, integers [n].
      predicted: predicted classes [n] of each seed; numbers are means over the seeds.
      names: of all classes; those without an example have no numbers.
    Returns: ({"test_macro_accuracy": …, "test_macro_f1": …}, name -> numbers). A class that is never predicted has
      precision 0.
    """
    present = np.unique(labels)
    score: Callable[..., Any] = precision_recall_fscore_support  # its annotations are narrower than its documentation
    scores = [score(labels, each, labels=present, zero_division=0.0)[:3] for each in predicted]
    precision, recall, f1 = np.mean(scores, 0)
    counts = np.bincount(labels, minlength=len(names))
    classes: Classes = {
        str(names[label]): {
            "accuracy": float(recall[i]),
            "precision": float(precision[i]),
            "f1": float(f1[i]),
            "images": int(counts[label]),
        }
        for i, label in enumerate(present)
    }
    return {"test_macro_accuracy": float(recall.mean()), "test_macro_f1": float(f1.mean())}, classes


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
        "schedule": plots.schedule(steps, {"learning rate": schedule({"learning_rate": peak})(steps)}),
    }
    return values, figures


def _report_members(classifier: Classifier, trained: Trained, test: data.Source, rows: slice):
    """Means over the seeds of the chosen hyperparameters."""
    fitted, members, seeds = trained.fitted, trained.members, rows.stop - rows.start
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


def draw_predictions(
    probabilities: np.ndarray, source: data.Source, shown: int | None = None
) -> dict[str, plots.Figure]:
    """Figures of some images of each class with their predictions, of the worst errors, and of the confusion matrix.

    Args:
      probabilities: [len(source), classes].
      source: the split.
      shown: number of images; by default 32, or one of each class where these are more, and 96 at most.
    """
    shown = min(max(32, len(source.classes)), 96) if shown is None else shown
    labels, predicted = data.labels(source), probabilities.argmax(-1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:shown]
    figures = {
        "predictions": _gallery(probabilities, source, labels, some_of_each(labels, shown)),
        "confusion_matrix": plots.confusion_matrix(
            confusion_matrix(labels, predicted, labels=range(len(source.classes))), source.classes
        ),
    }
    return figures | ({"worst_errors": _gallery(probabilities, source, labels, worst)} if len(worst) else {})


def some_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of examples, as many of each class as can be: the first of each, then the second of each, ….

    >>> some_of_each(np.array([0, 0, 0, 1, 2, 2]), 5).tolist()
    [0, 3, 4, 1, 5]
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.arange(len(labels)) - starts
    return order[np.lexsort((order, labels[order], rank))][:count]


def _gallery(probabilities: np.ndarray, source: data.Source, labels: np.ndarray, chosen: np.ndarray) -> plots.Figure:
    return plots.predictions(
        source.read(chosen)["image"],
        labels[chosen],
        probabilities[chosen].argmax(-1),
        probabilities[chosen].max(-1),
        source.classes,
    )
