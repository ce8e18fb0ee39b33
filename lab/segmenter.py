"""Networks that name the class of every pixel, as a `Training`, and what they predict of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import losses, metrics, tasks, train
from ..data import Source, augment, moments, repeated, select, with_regions
from ..errors import InputError, unknown_name
from ..models import dense
from .arrays import evaluation_batch, read_once
from .augmentation import AnnotatedOptions, make_annotated_augmentation
from .options import BatchOptions, DataOptions, LayoutOptions, OptimizerOptions, UpdateOptions
from .packed import chunks
from .saved_network import SavedNetwork
from .training import Training, load, make_training, named_network
from .valid import NON_NEGATIVE, Choice

THRESHOLDS = (*metrics.ISBI_THRESHOLDS, 0.92, 0.94, 0.96, 0.98)
"""Thresholds of a class's probability, of which its regions get the best: near 1, gaps in what parts them close."""
REGION_LOSSES = {"none": None, "dice": losses.dice_loss, "lovasz": losses.lovasz_softmax_loss}


@dataclass(frozen=True)
class SegmentationLossOptions:
    """What the loss of a segmentation is, besides cross-entropy."""

    TITLE: ClassVar[str] = "model"

    focal: Annotated[float, NON_NEGATIVE] = 0.0
    """Focusing parameter γ of the focal loss, which takes the place of cross-entropy in training, such as 2."""
    region_loss: Annotated[str, Choice("region loss", REGION_LOSSES)] = "none"
    """Loss of whole regions that is added to the cross-entropy: dice, or Lovász-softmax (lovasz)."""
    region_weight: Annotated[float, NON_NEGATIVE] = 1.0
    """Factor of the region loss."""
    border_weight: Annotated[float, NON_NEGATIVE] = 0.0
    """Factor w₀ of U-Net's weight map, which stresses what separates two objects, such as 10; 0 for no map. Without
    masks of objects, they are the connected regions of all classes but the first."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside this loss, each with the reason."""
        return {"region_weight": "there is no region loss"} if self.region_loss == "none" else {}


@dataclass(frozen=True)
class Segmenter:
    """A network that names the class of every pixel, ready to train."""

    training: Training
    """How it is trained."""
    model: nn.Module
    """images [batch, height, width, channel] -> logits [batch, height, width, classes]."""
    preprocess: Callable[[jax.Array], jax.Array]
    """Images of the data set -> images for the model."""

    def predictor(
        self, source: Source, *, probability_of: int | None = None, vote: bool = False
    ) -> Callable[[tasks.Variables], dict[str, np.ndarray]]:
        """Variables of one run -> what it says of a split, compiled once for all runs.

        Args:
          source: the split.
          probability_of: a class whose probability is wanted too, or None.
          vote: take the mean of the probabilities for the image and its flips and turns (`models.dense.over_turns`).
        Returns: variables -> {"classes": uint8 or int32 [n, height, width], "boundary_f": [n, classes], NaN for a
          class that an image has not, and perhaps "probability": float32 [n, height, width]}. Boundaries agree within
          0.8 % of the image's diagonal, rounded up to pixels, as in DAVIS.
        """
        classes, of_turns = len(source.classes), dense.over_turns if vote else lambda apply, images: apply(images)
        tolerance = math.ceil(0.008 * math.hypot(*source.element_spec["semantic"].shape))

        def predict(variables, batch):
            probabilities = of_turns(partial(self._probabilities, variables), batch["image"])
            guess = probabilities.argmax(-1)
            score = metrics.boundary_f(guess, batch["semantic"], classes, tolerance)
            said = {"classes": guess.astype(jnp.uint8 if classes <= 256 else jnp.int32), "boundary_f": score}
            return said if probability_of is None else said | {"probability": probabilities[..., probability_of]}

        size, resident = evaluation_batch(source), self.training.batch.resident
        return train.map_examples(predict, source, batch_size=size, resident=resident)

    def _probabilities(self, variables: tasks.Variables, images: jax.Array) -> jax.Array:
        """Images [batch, height, width, channel] -> [batch, height, width, classes]"""
        logits: Any = self.model.apply(variables, self.preprocess(images), train=False)
        return jax.nn.softmax(dense.center_crop(logits, (images.shape[1], images.shape[2])))


def segmentation(
    *,
    data: DataOptions,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    loss: SegmentationLossOptions = SegmentationLossOptions(),
    augmentation: AnnotatedOptions = AnnotatedOptions(),
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
) -> Segmenter:
    """Loads the data and builds the network that options name.

    Args:
      data, batch, optimizer, update, loss, augmentation, layout: groups of options.
      model: a name of `models.names(role="segmenter")`, or a module: images -> logits of every pixel.
      seed: seed of the training.
      fields: fields of the named network, such as {"width": 16}.
      dtype: data type of activations and gradients.
      accumulate: number of parts of a batch.
    Raises: InputError for a name, split or number that is not valid, or data without classes of pixels.
    """
    source = load(data, "train")
    if "semantic" not in source.element_spec:
        raise InputError(f"{source.name} has no classes of pixels; a segmentation needs them, such as scenes has.")
    shape = source.element_spec["image"].shape
    name = model if isinstance(model, str) else None
    if isinstance(model, str):
        axis_name = train.make_layout(layout.parallel).axis_name
        model = named_network(model, "segmenter", dtype, axis_name, num_classes=len(source.classes), **fields or {})
    if loss.border_weight and "masks" not in source.element_spec:
        source = with_regions(source)
    unused = {"boxes", "labels", "crowd"} | (set() if loss.border_weight else {"masks"})
    source = read_once(select(source, [name for name in source.element_spec if name not in unused]), batch)
    mean, std = moments(source)
    source = repeated(source, augmentation.crops)
    preprocess = partial(prepare_for, model, mean=mean, std=std)
    region = REGION_LOSSES[loss.region_loss]
    task = tasks.segmentation(
        model,
        shape,
        len(source.classes),
        preprocess=preprocess,
        focal=loss.focal,
        region_losses=() if region is None else ((loss.region_weight, region),),
        pixel_weights=partial(border_weights, factor=loss.border_weight) if loss.border_weight else None,
    )
    training = make_training(
        task,
        source,
        load(data, "validation"),
        batch=batch,
        optimizer=optimizer,
        update=update,
        seed=seed,
        layout=layout,
        accumulate=accumulate,
        augment=make_annotated_augmentation(augmentation),
    )
    saved = SavedNetwork.of(model, name, source, mean, std, "segmenter")
    return Segmenter(replace(training, saved=saved), model, preprocess)


def prepare_for(model: nn.Module, images: jax.Array, *, mean: np.ndarray, std: np.ndarray) -> jax.Array:
    """Images of a data set -> images for a network: normalized, and continued by mirroring for a U-Net without padding.

    The middle of the answer, `models.dense.center_crop`, is the answer for the images.
    """
    images = augment.normalize(images, mean=mean, std=std)
    if isinstance(model, dense.UNet) and model.padding == "VALID":
        return dense.mirror_padded(images, model.depth)
    return images


def border_weights(batch: tasks.Batch, *, factor: float) -> jax.Array:
    """U-Net's weight map of the objects (or the regions) of a batch, [batch, height, width]."""
    if "masks" in batch:
        number = jnp.arange(1, batch["masks"].shape[1] + 1)[:, None, None]
        instances = (batch["masks"].astype(jnp.int32) * number).max(1)
    else:
        instances = batch["regions"]
    return jax.vmap(partial(losses.unet_weight_map, w0=factor))(instances)


def larger_overlap(validation: Mapping[str, Any]) -> tuple[Any, ...]:
    """Score of a validation: mean IoU; the loss decides ties."""
    return validation["miou"], -validation["loss"]


class SegmentationScores(NamedTuple):
    """How good maps of classes are."""

    numbers: dict[str, float]
    """"miou", "mean_accuracy", "pixel_accuracy" and "boundary_f"."""
    classes: dict[str, dict[str, float]]
    """Name of each class that occurs -> "iou" and "boundary_f"."""


def segmentation_scores(classes: np.ndarray, boundary_f: np.ndarray, truth: Source) -> SegmentationScores:
    """Numbers of a whole split.

    Args:
      classes: predicted, [n, height, width].
      boundary_f: of each class in each image, [n, classes], NaN where it is neither there nor predicted. The mean over
        images for each class, then over classes.
      truth: the split, whose examples have "semantic".
    """
    confusion = np.zeros((len(truth.classes), len(truth.classes) + 1))
    start = 0
    for rows in chunks(truth, ["semantic"]):
        semantic = jnp.asarray(rows["semantic"])
        predicted = jnp.asarray(classes[start : start + len(semantic)].astype(np.int32))
        confusion += np.asarray(metrics.confusion_matrix(predicted, semantic, len(truth.classes)))
        start += len(semantic)
    boundaries = np.array([metrics.mean_of_defined(each) for each in boundary_f.T])
    numbers = metrics.segmentation_scores(confusion) | {"boundary_f": metrics.mean_of_defined(boundaries)}
    of_class = zip(truth.classes, metrics.class_iou(confusion), boundaries, strict=True)
    defined = {
        name: {"iou": float(iou)} | ({} if np.isnan(boundary) else {"boundary_f": float(boundary)})
        for name, iou, boundary in of_class
        if not np.isnan(iou)
    }
    return SegmentationScores(numbers, defined)


def label_of(source: Source, name: str | None) -> int | None:
    """The number of a class, or None for none.

    Raises: InputError for a name that is not one of the classes.
    """
    if name is not None and name not in source.classes:
        raise unknown_name("class", name, source.classes)
    return None if name is None else source.classes.index(name)


def region_threshold(probability: np.ndarray, truth: Source, label: int) -> float:
    """The threshold of the probability of a class at which its regions agree best with the true ones (V-Rand).

    Args:
      probability: [n, height, width].
      truth: the split, whose examples have "semantic".
      label: the class.
    """
    return metrics.best_isbi_scores(probability, _inside(truth, label), THRESHOLDS)["v_rand_threshold"]


def region_scores(inside: np.ndarray, truth: Source, label: int) -> dict[str, float]:
    """`metrics.isbi_scores` of the predicted inside of regions, bool [n, height, width], against those of a class."""
    return metrics.isbi_scores(inside, _inside(truth, label))


def _inside(truth: Source, label: int) -> np.ndarray:
    return select(truth, ["semantic"]).arrays()["semantic"] == label
