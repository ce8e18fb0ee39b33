"""A judge of generated images: a classifier of the same data that was trained apart, and saw none of them.

It says whether the asked class is recognized, and how far its features of the samples are from those of the test split,
next to how far those of the training split are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .. import metrics, models
from ..models import penultimate
from .arrays import in_batches
from .classifier import Classifier, classification, more_accurate
from .options import BatchOptions, DataOptions, Feed, JudgeOptions, OptimizerOptions, UpdateOptions
from .run import Run
from .trained import fit
from .training import load, warmup_cosine

JUDGE_RATE = 0.05
COVERED = 0.5  # the part of an equal share from which on a class counts as covered: 0.05 of the samples for ten classes


@dataclass(frozen=True)
class Judge:
    """A trained judge."""

    accuracy: float
    """Its accuracy on the test split."""
    logits_and_features: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Images uint8 [n, height, width, channel] -> ([n, classes], [n, d])."""
    examples: Mapping[str, np.ndarray]
    """The first examples of the test split, which stand for it; their labels are what generators are asked for."""
    real: np.ndarray
    """Features of these examples, [n, d]."""
    control: np.ndarray
    """Features of as many training examples, [n, d]."""

    def report(self, images: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
        """What the judge says of generated images.

        Args:
          images: uint8 [n, height, width, channel], as many as `examples`.
          labels: classes that were asked for, [n], or None.
        Returns: "recognised", the share of labels that the judge sees, if there are any; distances of features from
          those of the test split; and of the judge's classes "smallest_class", the share of the rarest among the
          images, "modes_covered", how many are there at least half as often as if all were equally frequent, and
          "mode_kl", the divergence of their shares from equal ones in nats (Metz et al. 2017).
        """
        logits, features = self.logits_and_features(images)
        predicted = logits.argmax(-1)
        recognized = {} if labels is None else {"recognised": _share(logits, labels)}
        classes = logits.shape[-1]
        found = metrics.mode_coverage(predicted, classes, min_share=COVERED / classes)
        coverage = {
            "smallest_class": float(found.shares.min()),
            "modes_covered": found.covered,
            "mode_kl": found.divergence,
        }
        return recognized | self._compared(features) | coverage

    def recognised_originals(self) -> float:
        """The share of `examples` whose label the judge sees: what perfect copies of them would have."""
        return _share(self.logits_and_features(self.examples["image"])[0], self.examples["label"])

    def references(self) -> dict[str, float]:
        """The same distances of the training split: those of a perfect generator."""
        compared = {f"reference_{name}": value for name, value in self._compared(self.control).items()}
        return {"judge_accuracy": self.accuracy} | compared

    def _compared(self, features: np.ndarray) -> dict[str, float]:
        """How far features are from those of the test split."""
        precision, recall = metrics.precision_recall(self.real, features)
        return {
            "frechet": metrics.frechet_distance(features, self.real),
            "kernel_distance": metrics.kernel_distance(features, self.real),
            "precision": precision,
            "recall": recall,
        }


def _share(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(-1) == labels).mean())


def prepare_judge(options: JudgeOptions, data: DataOptions, feed: Feed) -> Classifier:
    """The judge before its training, which fails here if it can't read the images.

    Args:
      options: name of the classifier.
      data: the data set of the generator.
      feed: place of the examples.
    """
    classifier = classification(
        data=data,
        model=options.judge,
        batch=BatchOptions(feed=feed),
        optimizer=OptimizerOptions(),
        update=UpdateOptions(),
    )
    models.count_parameters(classifier.model, classifier.training.source.element_spec["image"].shape)
    return classifier


def train_judge(run: Run, options: JudgeOptions, data: DataOptions, feed: Feed) -> Judge:
    """Trains the judge, or loads the one of an earlier start. Its seed is 0, so that all runs have the same one.

    Args:
      run: open; the judge is a part of it.
      options: the judge, and how many images it sees.
      data: the data set of the generator.
      feed: place of the examples.
    """
    classifier = prepare_judge(options, data, feed)
    training, epochs = classifier.training, options.judge_epochs
    trained = fit(
        run.part("judge"),
        training,
        training.members(JUDGE_RATE),
        warmup_cosine(training.steps(epochs)),
        epochs,
        better=more_accurate,
        title=f"judge: {options.judge}",
    )
    test, variables = load(data, "test"), trained.fitted.best
    accuracy = float(trained.measure(variables, test)["accuracy"][0])

    @jax.jit
    def answers(images) -> Any:
        return penultimate(classifier.model, variables, classifier.preprocess(images))

    def logits_and_features(images):
        return in_batches(answers, images)

    count = min(options.samples, len(test))
    # Of the training split as many as of the test split, spread over it.
    control = training.source.read(np.linspace(0, len(training.source) - 1, count).astype(np.int64))["image"]
    examples = test.read(np.arange(count))
    features = (logits_and_features(images)[1] for images in (examples["image"], control))
    return Judge(accuracy, logits_and_features, examples, *features)
