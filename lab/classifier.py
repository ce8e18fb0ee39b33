"""Image classifiers as a `Training`, and what they predict of a split.

classifier = classification(
    data=config.data, model=config.model.model, batch=config.batch, optimizer=config.optimizer, update=config.update
)
trained = fit(run, classifier.training, classifier.training.members(0.1), schedule, epochs)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from .. import metrics, models, tasks, train
from ..data import Source, augment, labels, moments, require_images
from ..errors import InputError
from .arrays import evaluation_batch, read_once
from .augmentation import AugmentationOptions, MixingOptions, make_augmentation, voting_views
from .options import (
    BatchOptions,
    DataOptions,
    DropOptions,
    LayoutOptions,
    OptimizerOptions,
    UpdateOptions,
)
from .saved_network import SavedNetwork
from .training import Training, load, make_training, named_network
from .weights import StartingWeights, starting_weights


@dataclass(frozen=True)
class Classifier:
    """An image classifier, ready to train."""

    training: Training
    """How it is trained."""
    model: nn.Module
    """images [batch, height, width, channel] -> logits [batch, classes]."""
    preprocess: Callable[[jax.Array], jax.Array]
    """Images of the data set -> images for the model."""
    test_task: tasks.Task
    """The task with which the test split is measured: augmented copies of an image vote, if there are any."""
    views: Callable[[Any], jax.Array] | None
    """batch -> images [copies, batch, …] that vote on the test split; None for the image alone."""

    def probabilities(self, variables: tasks.Variables, source: Source) -> np.ndarray:
        """Class probabilities of every example of a split, [len(source), classes]. On the test split, views vote.

        Args:
          variables: those of one run.
          source: the split.
        """
        return self.predictor(source)(variables)

    def predictor(self, source: Source) -> Callable[[tasks.Variables], np.ndarray]:
        """Variables of one run -> what `probabilities` returns, compiled once for all runs."""
        views = self.views if source.split == "test" else None

        def predict(variables, batch):
            images = batch["image"][None] if views is None else views(batch)
            logits = jax.lax.map(lambda x: self.model.apply(variables, self.preprocess(x), train=False), images)
            return {"probabilities": metrics.mean_vote(jax.nn.softmax(logits))}

        resident = self.training.batch.resident
        rows = train.map_examples(predict, source, batch_size=evaluation_batch(source), resident=resident)
        return lambda variables: rows(variables)["probabilities"]


def classification(
    *,
    data: DataOptions,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    seed: int = 0,
    drops: DropOptions = DropOptions(),
    label_smoothing: float = 0.0,
    class_weights: str = "none",
    dtype: str = "float32",
    augmentation: AugmentationOptions = AugmentationOptions(),
    mixing: MixingOptions = MixingOptions(),
    copies: int = 0,
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
    weights: Path | None = None,
    freeze: bool = False,
) -> Classifier:
    """Loads the data and builds the classifier that options name.

    Args:
      data, batch, optimizer, update, drops, augmentation, mixing, layout: groups of options.
      model: a name of `models.names(role="classifier")`, or a module: images [batch, height, width, channel] -> logits.
      seed: seed of the training.
      label_smoothing: probability that is moved from the label to all classes alike, in training.
      class_weights: "none", or "balanced": an example of class c counts n / (classes · n_c) in the training loss.
      dtype: data type of activations and gradients.
      copies: number of augmented copies of a test image that vote.
      accumulate: number of parts of a batch.
      weights: file of weights, or folder of a finished run, with which training begins; None for random numbers.
      freeze: train the head alone (`tasks.classification` says how the rest runs).
    Raises: InputError for a name, split or number that is not valid, or for weights that do not fit.
    """
    source = load(data, "train")
    if len(source.classes) < 2:
        found = f"one class, {source.classes[0]}" if source.classes else "no classes"
        raise InputError(f"{source.name} has {found}; a classifier tells at least two apart.")
    views = voting_views(augmentation, source, copies)
    name = model if isinstance(model, str) else None
    if isinstance(model, str):
        axis_name = train.make_layout(layout.parallel).axis_name
        model = named_model(model, len(source.classes), drops, dtype, axis_name)
    shape, (described, _) = require_images(source), models.describe(model, name)
    start = None if weights is None else starting_weights(weights, model, described, shape)
    trained = _trained(start, drops) if freeze else None
    source = read_once(source, batch)
    mean, std = moments(source) if start is None or start.moments is None else start.moments
    preprocess = partial(augment.normalize, mean=mean, std=std)
    make_task = partial(tasks.classification, model, shape, preprocess=preprocess)
    training = make_training(
        make_task(
            label_smoothing=label_smoothing, class_weights=weights_of_classes(class_weights, source), trained=trained
        ),
        source,
        load(data, "validation"),
        batch=batch,
        optimizer=optimizer,
        update=update,
        seed=seed,
        layout=layout,
        accumulate=accumulate,
        augment=make_augmentation(augmentation, source, mixup=mixing.mixup, cutmix=mixing.cutmix),
    )
    saved = SavedNetwork.of(model, name, source, mean, std, "classifier")
    if start is not None:
        saved = replace(saved, weights=start.report(frozen=freeze))
        training = replace(training, variables=start.variables, trained=trained)
    return Classifier(replace(training, saved=saved), model, preprocess, make_task(views=views), views)


def _trained(start: StartingWeights | None, drops: DropOptions) -> Callable[[tuple[str, ...]], bool]:
    """Which parameters of a frozen network are trained; raises InputError for options that a frozen one has not."""
    if start is None:
        raise InputError("freeze keeps what --weights loaded as it is; give --weights, or leave --freeze out.")
    if drops.dropout or drops.drop_path:
        raise InputError("A frozen network drops nothing; set --dropout and --drop-path to 0.")
    return start.head.__contains__


def weights_of_classes(kind: str, source: Source) -> list[float] | None:
    """How much an example of each class counts in the loss, a number per class, or None for all alike.

    "balanced" is n / (classes · n_c), as scikit-learn has it: all classes count alike, and the mean weight of the
    examples is 1.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels(source), minlength=len(source.classes))
    return (len(source) / (len(counts) * np.maximum(counts, 1))).tolist()


def named_model(name: str, num_classes: int, drops: DropOptions, dtype: str, axis_name: str | None) -> nn.Module:
    """The classifier of a name, for so many classes.

    Raises: InputError for an unknown name, a network that does not classify, or a rate that it does not have.
    """
    rates = {"dropout": drops.dropout, "drop_path": drops.drop_path}
    given = {field: rate for field, rate in rates.items() if rate is not None}
    return named_network(name, "classifier", dtype, axis_name, num_classes=num_classes, **given)


def more_accurate(validation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Score of a validation: accuracy; the loss decides the many ties of a small split."""
    return validation["accuracy"], -validation["loss"]
