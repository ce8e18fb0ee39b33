"""Detection in a single pass as a task: every cell of several grids answers for at most one object.

One task serves boxes alone, boxes with masks, and boxes, masks and classes of pixels: it trains what the network has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..models import dense
from .assignment import assign_cells
from .mean import Mean
from .task import Aux, Batch, Task, Variables, example_weights


@dataclass(frozen=True)
class DetectionWeights:
    """Factors of the parts of the loss, each a mean over the objects, or over pixels."""

    box: float = 2.0
    """1 − GIoU of the boxes."""
    quality: float = 1.0
    """Cross-entropy of the predicted IoU."""
    mask: float = 1.0
    """Cross-entropy of the masks' pixels inside the boxes."""
    semantic: float = 1.0
    """Cross-entropy of the classes of pixels."""


class Found(NamedTuple):
    """The objects found in a batch of images, best first, padded to a fixed number."""

    boxes: jax.Array
    """[batch, most, 4] in pixels."""
    scores: jax.Array
    """[batch, most], 0 for padding."""
    labels: jax.Array
    """[batch, most] int32, −1 for padding."""
    masks: jax.Array | None
    """[batch, most, height, width] uint8, or None for a network without masks."""
    classes: jax.Array | None
    """[batch, height, width] int32: the class of each pixel by panoptic fusion, or None for a network without classes
    of pixels. Classes of stuff come after those of objects."""
    ids: jax.Array | None
    """[batch, height, width] int32: 1 + the number of the pixel's object, 0 for stuff; or None, as `classes`."""


def detection(
    model: dense.GridDetector,
    image_shape: tuple[int, int, int],
    *,
    preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
    radius: float = 0.0,
    weights: DetectionWeights = DetectionWeights(),
) -> Task:
    """Boxes and classes of the objects in `batch["image"]`, as `batch["boxes"]` and `batch["labels"]` have them.

    The loss is a sum over the cells, divided by the number of objects (RetinaNet), plus one for each image, so that a
    batch without objects has a loss too. Cells whose centers lie in a crowd, and which answer for no object, are not
    told that they are background.

    Args:
      model: images [batch, height, width, channel] -> `models.dense.GridOutputs`.
      image_shape: (height, width, channel) of an image; a batch may have another height and width.
      preprocess: images of the data set -> images for the model, in training and at prediction alike.
      radius: cells that far from an object's center, in strides, answer for it too (`assign_cells`).
      weights: factors of the parts of the loss. Masks need `batch["masks"]`, classes of pixels `batch["semantic"]`.
    Returns: a task with the metrics `class_loss`, `box_loss`, `quality_loss` and, where the network has them,
      `mask_loss` and `semantic_loss`.
    Source: Lin et al. 2017 (RetinaNet); Tian et al. 2019 (FCOS); Bolya et al. 2019 (YOLACT), for the masks.
    """

    def init(key):
        return model.init({"params": key}, preprocess(jnp.zeros((1, *image_shape), jnp.uint8)), train=False)

    def of_image(outputs: dense.GridOutputs, example: Batch) -> dict[str, jax.Array]:
        """Sums of one image's losses."""
        height, width, _ = example["image"].shape
        levels = dense.grid_levels(height, width, model.strides)
        limits = tuple(2**2.5 * level.stride for level in levels[:-1])  # between this level's usual side and the next's
        labels = example["labels"]
        crowd = example.get("crowd", jnp.zeros(labels.shape, bool))
        valid = (labels >= 0) & ~crowd
        assignment = assign_cells(example["boxes"], valid, levels, limits=limits, radius=radius)
        positive, own = assignment.objects >= 0, jnp.maximum(assignment.objects, 0)
        centers = dense.cell_centers(levels)
        low, high = example["boxes"][:, None, :2], example["boxes"][:, None, 2:]
        in_crowd = (((low <= centers) & (centers < high)).all(-1) & (crowd & (labels >= 0))[:, None]).any(0)
        told = positive | ~in_crowd
        wanted = jax.nn.one_hot(jnp.where(positive, labels[own], -1), model.num_classes)
        focal = losses.sigmoid_focal_loss(outputs.class_logits, wanted) * told[:, None]
        boxes = example["boxes"][own]
        iou = jax.lax.stop_gradient(losses.box_iou(outputs.boxes, boxes))
        parts = {
            "class_loss": focal.sum(),
            "box_loss": jnp.where(positive, losses.giou_loss(outputs.boxes, boxes), 0).sum(),
            "quality_loss": jnp.where(
                positive, optax.sigmoid_binary_cross_entropy(outputs.quality_logits, iou), 0
            ).sum(),
        }
        if outputs.prototypes is not None:
            parts["mask_loss"] = _mask_loss(outputs, example, assignment.own, valid, levels[0].stride // 2)
        return parts | {"objects": valid.sum().astype(jnp.float32)}

    def loss(params, model_state, batch, key, train, hyper):
        del hyper
        images, variables = preprocess(batch["image"]), {"params": params, **model_state}
        if train:
            outputs: Any
            outputs, updated = model.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
            )
            model_state = {**model_state, **updated}
        else:
            outputs = model.apply(variables, images, train=False)
        examples = {name: batch[name] for name in ("image", "boxes", "labels", "crowd", "masks") if name in batch}
        parts, images_count = jax.vmap(of_image)(outputs, examples), example_weights(batch)
        counts = images_count * (parts.pop("objects") + 1)
        sums = {name: Mean.of(_per(total, counts, images_count), counts) for name, total in parts.items()}
        if outputs.semantic_logits is not None:
            sums["semantic_loss"] = _semantic_loss(outputs.semantic_logits, batch["semantic"], counts, images_count)
        factors = {"class_loss": 1.0} | {f"{name}_loss": factor for name, factor in vars(weights).items()}
        total = jnp.stack([factors[name] * mean.total for name, mean in sums.items()]).sum()
        return Mean(total, counts.sum()), Aux(model_state, sums)

    return Task(init, loss)


def _per(total: jax.Array, counts: jax.Array, images: jax.Array) -> jax.Array:
    """Values [batch] whose mean of weights `counts` is the sum of `total`, each times its image's weight."""
    return jnp.where(counts > 0, total * images / jnp.where(counts > 0, counts, 1), 0)


def _mask_loss(outputs: dense.GridOutputs, example: Batch, own: jax.Array, valid: jax.Array, stride: int) -> jax.Array:
    """Cross-entropy of the masks of one image on the grid of the prototypes: means over the boxes, summed up."""
    prototypes, coefficients = outputs.prototypes, outputs.coefficients
    assert prototypes is not None
    assert coefficients is not None
    logits = dense.mask_logits(prototypes[None], coefficients[own][None])[0]
    rows, columns = logits.shape[1:]
    height, width = example["masks"].shape[1:]
    bottom, right = rows * stride - height, columns * stride - width
    masks = jnp.pad(example["masks"].astype(jnp.float32), ((0, 0), (0, bottom), (0, right)))
    wanted = masks.reshape(-1, rows, stride, columns, stride).mean((2, 4))
    inside = dense.crop_to_boxes(jnp.ones_like(logits)[None], example["boxes"][None], stride)[0]
    per_pixel = optax.sigmoid_binary_cross_entropy(logits, wanted) * inside
    per_object = per_pixel.sum((1, 2)) / jnp.maximum(inside.sum((1, 2)), 1)
    return jnp.where(valid & (own >= 0), per_object, 0).sum()


def _semantic_loss(logits: jax.Array, classes: jax.Array, counts: jax.Array, images: jax.Array) -> Mean:
    """Mean cross-entropy of the pixels that have a class, as much for an image as it counts."""
    per_image = losses.dense_cross_entropy(logits, classes).sum((1, 2)) / jnp.maximum((classes >= 0).sum((1, 2)), 1)
    return Mean.of(per_image, jnp.where(images > 0, counts, 0))


def find_objects(
    model: dense.GridDetector,
    variables: Variables,
    images: jax.Array,
    *,
    most: int = 100,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    fusion_score: float = 0.3,
    fusion_visible: float = 0.5,
) -> Found:
    """The objects in images: boxes with scores, without those that overlap a better one of the same class.

    Args:
      model: the detector.
      variables: its variables.
      images: [batch, height, width, channel], preprocessed.
      most: number of places for objects.
      score_threshold: least score of an object, in [0, 1).
      iou_threshold: IoU above which the worse of two boxes of one class is dropped.
      fusion_score, fusion_visible: thresholds of `models.dense.panoptic_fusion`.
    """
    outputs: Any = model.apply(variables, images, train=False)
    boxes, scores = dense.decode(outputs)
    height, width = images.shape[1:3]
    boxes = jnp.clip(boxes, 0, jnp.array([width, height, width, height], jnp.float32))
    labels, scores = scores.argmax(-1), scores.max(-1)

    def suppress(boxes, scores, labels):
        return dense.non_max_suppression(
            boxes,
            scores,
            max_outputs=most,
            labels=labels,
            score_threshold=score_threshold,
            decay=dense.hard_decay(iou_threshold),
        )

    kept = jax.vmap(suppress)(boxes, scores, labels)
    places = jnp.maximum(kept.indices, 0)[..., None]
    chosen = jnp.where(kept.valid[..., None], jnp.take_along_axis(boxes, places, 1), 0)
    labels = jnp.where(kept.valid, jnp.take_along_axis(labels, places[..., 0], 1), -1).astype(jnp.int32)
    masks = classes = ids = None
    if outputs.prototypes is not None:
        coefficients = jnp.take_along_axis(outputs.coefficients, places, 1)
        stride = model.strides[0] // 2
        likely = dense.assemble_masks(outputs.prototypes, coefficients, chosen, (height, width), stride)
        masks = (likely > 0.5).astype(jnp.uint8)
    if masks is not None and outputs.semantic_logits is not None:
        stuff = jnp.arange(model.num_classes, model.num_semantic)
        fuse = partial(dense.panoptic_fusion, score_threshold=fusion_score, visible_threshold=fusion_visible)
        fuse = jax.vmap(fuse, in_axes=(0, 0, 0, 0, None))
        classes, ids = fuse(masks, kept.scores, labels, outputs.semantic_logits[..., model.num_classes :], stuff)
    return Found(chosen, kept.scores, labels, masks, classes, ids)


def panoptic_truth(masks: jax.Array, labels: jax.Array, semantic: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The true class and id of every pixel, of annotated objects and classes of pixels.

    Args:
      masks: [batch, objects, height, width], 1 where an object is. Of objects that overlap, the smallest is in front,
        as in the classes of pixels of COCO's annotations (`data.load`).
      labels: [batch, objects] int32, −1 for none.
      semantic: [batch, height, width] int32, −1 for void.
    Returns: (classes, ids), [batch, height, width] int32 each: id 1 + the number of the object, 0 for stuff and void.
    """
    inside = (masks > 0) & (labels >= 0)[..., None, None]
    areas = inside.sum((2, 3), keepdims=True)
    ids = jnp.where(inside.any(1), jnp.where(inside, areas, jnp.inf).argmin(1) + 1, 0).astype(jnp.int32)
    of_object = jnp.take_along_axis(labels, jnp.maximum(ids - 1, 0).reshape(len(ids), -1), 1).reshape(ids.shape)
    return jnp.where(ids > 0, of_object, semantic), ids
