"""Semantic segmentation as a task: a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses, metrics
from ..models import dense
from .mean import Mean
from .task import Aux, Batch, Evaluation, Task, Variables, example_weights, report_means

RegionLoss = Callable[[jax.Array, jax.Array], jax.Array]
AUXILIARY = 0.5  # factor of the loss of an auxiliary head, as in torchvision's reference training


def segmentation(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
    focal: float = 0.0,
    pixel_weights: Callable[[Batch], jax.Array] | None = None,
    region_losses: Sequence[tuple[float, RegionLoss]] = (),
) -> Task:
    """A class for every pixel of `batch["image"]`, as `batch["semantic"]` has it; pixels of class −1 count for nothing.

    All images count alike, however many of their pixels have a class; one without such pixels counts for nothing.

    A model may answer with a larger map, around the image: then `preprocess` has padded the images, and the middle of
    the answer counts (the overlap-tile strategy of Ronneberger et al. 2015). An answer in "intermediates/aux", as
    `models.dense.FCNResNet` has one, adds half of its loss in training.

    Args:
      model: images [batch, height, width, channel] -> logits [batch, height, width, classes].
      image_shape: (height, width, channel) of an image; a batch may have another height and width.
      num_classes: number of classes.
      preprocess: images of the data set -> images for the model, in training and at prediction alike.
      focal: γ ≥ 0 of the focal loss (Lin et al. 2017) in training; 0 is the cross-entropy.
      pixel_weights: batch -> [batch, height, width], how much each pixel counts in the training loss, such as U-Net's
        weight map; None for all alike.
      region_losses: (factor, loss) of losses of regions, (logits, classes) -> [batch, classes], that are added to the
        cross-entropy in training, such as (1.0, losses.dice_loss): the mean over the classes that an image has.
    Returns: a task that reports `loss` (the cross-entropy), `pixel_accuracy` and `miou` at prediction, and the first
      two in training.
    """

    def init(key):
        return model.init({"params": key}, preprocess(jnp.zeros((1, *image_shape), jnp.uint8)), train=False)

    def size_of(batch: Batch) -> tuple[int, int]:
        _, height, width = batch["semantic"].shape
        return height, width

    def predict(variables: Variables, batch: Batch) -> jax.Array:
        logits: Any = model.apply(variables, preprocess(batch["image"]), train=False)
        return dense.center_crop(logits, size_of(batch))

    def per_image(per_pixel: jax.Array, classes: jax.Array) -> jax.Array:
        return per_pixel.sum((1, 2)) / jnp.maximum((classes >= 0).sum((1, 2)), 1)

    def entropy(logits: jax.Array, classes: jax.Array) -> jax.Array:
        return per_image(losses.dense_cross_entropy(logits, classes), classes)

    def trained(logits: jax.Array, batch: Batch) -> jax.Array:
        """The loss of each image in training, without those of regions."""
        classes = batch["semantic"]
        if focal:
            per_pixel = losses.softmax_focal_loss(logits, classes, gamma=focal)
        else:
            per_pixel = losses.dense_cross_entropy(logits, classes)
        return per_image(per_pixel if pixel_weights is None else per_pixel * pixel_weights(batch), classes)

    def of_regions(loss: RegionLoss, logits: jax.Array, classes: jax.Array) -> jax.Array:
        present = losses.classes_present(classes, num_classes)
        return (loss(logits, classes) * present).sum(1) / jnp.maximum(present.sum(1), 1)

    def means(values: jax.Array, logits: jax.Array, batch: Batch) -> tuple[Mean, dict[str, Mean]]:
        classes, images = batch["semantic"], example_weights(batch)
        known = classes >= 0
        right = logits.argmax(-1) == classes
        accuracy = Mean.of(right, images[:, None, None] * known)
        return Mean.of(values, images * known.any((1, 2))), {"pixel_accuracy": accuracy}

    def loss(params, model_state, batch, key, train, hyper):
        del hyper
        variables, classes = {"params": params, **model_state}, batch["semantic"]
        if not train:
            logits = predict(variables, batch)
            mean, reported = means(entropy(logits, classes), logits, batch)
            return mean, Aux(model_state, reported)
        answer: Any
        answer, updated = model.apply(
            variables,
            preprocess(batch["image"]),
            train=True,
            rngs={"dropout": key},
            mutable=[*model_state, "intermediates"],
        )
        sown = dict(updated).pop("intermediates", {}).get("aux", ())
        model_state = {name: updated[name] for name in model_state}
        shape = size_of(batch)
        logits = dense.center_crop(answer, shape)
        values = trained(logits, batch)
        values += sum(AUXILIARY * trained(dense.center_crop(each, shape), batch) for each in sown)
        values += sum(factor * of_regions(each, logits, classes) for factor, each in region_losses)
        mean, reported = means(values, logits, batch)
        return mean, Aux(model_state, reported)

    def statistics(variables: Variables, batch: Batch) -> tuple[dict[str, Mean], jax.Array]:
        logits, classes = predict(variables, batch), batch["semantic"]
        mean, reported = means(entropy(logits, classes), logits, batch)
        confusion = metrics.confusion_matrix(logits.argmax(-1), classes, num_classes, weights=example_weights(batch))
        return {"loss": mean, **reported}, confusion

    def report(sums: tuple[dict[str, Mean], np.ndarray]) -> dict[str, float]:
        reported, confusion = sums
        return {**report_means(reported), "miou": metrics.segmentation_scores(confusion)["miou"]}

    return Task(init, loss, Evaluation(statistics, report))
