"""Networks that find objects, as a `Training`, and what they find in a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import metrics, tasks, train
from ..data import Source, augment, moments, repeated
from ..errors import InputError
from .arrays import evaluation_batch, read_once
from .augmentation import AnnotatedOptions, make_annotated_augmentation
from .options import BatchOptions, DataOptions, LayoutOptions, OptimizerOptions, UpdateOptions
from .packed import Rows, chunks, pack, read_packed, unpack
from .saved_network import SavedNetwork
from .training import Training, load, make_training, named_network
from .valid import FRACTION, NON_NEGATIVE, PROPER_FRACTION, at_least


@dataclass(frozen=True)
class FindingOptions:
    """Which of the answers of a detector are objects."""

    TITLE: ClassVar[str] = "evaluation"

    most_objects: Annotated[int, at_least(1, 1000)] = 20
    """Largest number of objects that are found in an image."""
    score_threshold: Annotated[float, PROPER_FRACTION] = 0.05
    """Least score of an object."""
    iou_threshold: Annotated[float, FRACTION] = 0.5
    """Overlap (IoU) above which the worse of two boxes of one class is dropped."""


@dataclass(frozen=True)
class FusionOptions:
    """Which objects are put over the stuff of a panoptic map."""

    TITLE: ClassVar[str] = "evaluation"

    fusion_score: Annotated[float, FRACTION] = 0.3
    """Least score of an object."""
    fusion_visible: Annotated[float, FRACTION] = 0.5
    """Least part of an object's mask that no surer object has."""


@dataclass(frozen=True)
class AssignmentOptions:
    """Which cells answer for an object, besides the one that contains its center."""

    TITLE: ClassVar[str] = "model"

    radius: Annotated[float, NON_NEGATIVE] = 1.0
    """Cells whose centers are in the box and so many strides from its center answer for the object too; 0 for none."""


@dataclass(frozen=True)
class Detector:
    """A network that finds objects, ready to train."""

    training: Training
    """How it is trained."""
    model: nn.Module
    """images [batch, height, width, channel] -> `models.dense.GridOutputs`."""
    preprocess: Callable[[jax.Array], jax.Array]
    """Images of the data set -> images for the model."""

    def finder(
        self, source: Source, options: FindingOptions, fusion: FusionOptions = FusionOptions()
    ) -> Callable[[tasks.Variables], dict[str, np.ndarray]]:
        """Variables of one run -> what it finds in a split, compiled once for all runs.

        Args:
          source: the split.
          options: which answers are objects.
          fusion: which objects are in the panoptic map, of a network that gives one.
        Returns: variables -> the arrays of `tasks.Found`, by name, [n, …] in the order of the split; masks and maps are
          packed (`lab.packed`).
        """

        def find(variables, batch):
            found = find_objects(self.model, variables, self.preprocess(batch["image"]), options, fusion)
            return {name: array for name, array in found._asdict().items() if array is not None}

        size, resident = evaluation_batch(source), self.training.batch.resident
        return train.map_examples(find, source, batch_size=size, resident=resident, keep=pack)


def find_objects(
    model: Any, variables: tasks.Variables, images: jax.Array, options: FindingOptions, fusion: FusionOptions
) -> tasks.Found:
    """`tasks.find_objects` with the numbers of options."""
    return tasks.find_objects(
        model,
        variables,
        images,
        most=options.most_objects,
        score_threshold=options.score_threshold,
        iou_threshold=options.iou_threshold,
        fusion_score=fusion.fusion_score,
        fusion_visible=fusion.fusion_visible,
    )


def detection(
    *,
    data: DataOptions,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    assignment: AssignmentOptions = AssignmentOptions(),
    augmentation: AnnotatedOptions = AnnotatedOptions(),
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
) -> Detector:
    """Loads the data and builds the detector that options name.

    Args:
      data, batch, optimizer, update, assignment, augmentation, layout: groups of options.
      model: a name of `models.names(role="detector")`, or a module: images -> `models.dense.GridOutputs`.
      seed: seed of the training.
      fields: fields of the named network, such as {"channels": 32}.
      dtype: data type of activations and gradients.
      accumulate: number of parts of a batch.
    Raises: InputError for a name, split or number that is not valid, or data without objects, or without the masks or
      classes of pixels that the network is to learn.
    """
    source = load(data, "train")
    if "boxes" not in source.element_spec:
        raise InputError(f"{source.name} has no boxes; a detector needs them, such as scenes has.")
    shape = source.element_spec["image"].shape
    name = model if isinstance(model, str) else None
    network: Any = model
    if isinstance(model, str):
        axis_name = train.make_layout(layout.parallel).axis_name
        network = named_network(model, "detector", dtype, axis_name, num_classes=things_of(source), **fields or {})
        if network.num_semantic:
            network = network.clone(num_semantic=len(source.classes))
    for field, part, what in (("num_prototypes", "masks", "masks"), ("num_semantic", "semantic", "classes of pixels")):
        if getattr(network, field) and part not in source.element_spec:
            raise InputError(f"{source.name} has no {what}, which this network learns.")
    source = read_once(source, batch)
    mean, std = moments(source)
    source = repeated(source, augmentation.crops)
    preprocess = partial(augment.normalize, mean=mean, std=std)
    task = tasks.detection(network, shape, preprocess=preprocess, radius=assignment.radius)
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
    saved = SavedNetwork.of(network, name, source, mean, std, "detector")
    return Detector(replace(training, saved=saved), network, preprocess)


def things_of(source: Source) -> int:
    """Number of classes of objects, which come before those of stuff."""
    return sum(source.is_thing) if source.is_thing else len(source.classes)


def detection_scores(
    found: Sequence[Rows], truth: Source, num_classes: int, *, regions: str = "boxes"
) -> list[metrics.DetectionScores]:
    """COCO's numbers of what each of some networks found in a split.

    Args:
      found: what `Detector.finder` gives, for each network.
      truth: the split.
      num_classes: number of classes of objects.
      regions: "boxes" or "masks".
    """
    score = {"boxes": metrics.box_detection_scores, "masks": metrics.mask_detection_scores}[regions]
    rows = read_packed(truth, ("labels", "crowd", regions))
    crowd = rows.get("crowd", np.zeros(rows["labels"].shape, bool))
    listed = list if regions == "masks" else np.asarray  # run lengths are a list
    objects = [
        metrics.Objects(listed(each), *row) for each, *row in zip(rows[regions], rows["labels"], crowd, strict=True)
    ]
    return [
        score(
            [
                metrics.Detections(listed(region), *row)
                for region, *row in zip(each[regions], each["scores"], each["labels"], strict=True)
            ],
            objects,
            num_classes,
        )
        for each in found
    ]


def panoptic_scores(found: Sequence[Rows], truth: Source) -> list[metrics.PanopticScores]:
    """Panoptic quality of what each of some networks found in a split whose examples have masks and "semantic"."""
    counts, start = np.zeros((len(found), len(truth.classes), 4)), 0
    for rows in chunks(truth, ("masks", "labels", "semantic", "crowd")):
        classes, ids = panoptic_truth(rows)
        crowd = rows.get("crowd", np.zeros(rows["labels"].shape, bool))
        in_crowd = np.take_along_axis(crowd, np.maximum(ids - 1, 0).reshape(len(ids), -1), 1).reshape(ids.shape)
        stop = start + len(ids)
        for i, each in enumerate(found):
            predicted = unpack({name: each[name][start:stop] for name in ("classes", "ids")})
            counts[i] += metrics.panoptic_counts(
                predicted["classes"], predicted["ids"], classes, ids, len(truth.classes), in_crowd & (ids > 0)
            ).sum(0)
        start = stop
    return [metrics.panoptic_quality(each, np.asarray(truth.is_thing)) for each in counts]


def panoptic_truth(examples: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The true (classes, ids) of every pixel of annotated images [n, height, width], as `tasks.panoptic_truth` says."""
    classes, ids = tasks.panoptic_truth(*(jnp.asarray(examples[name]) for name in ("masks", "labels", "semantic")))
    return np.asarray(classes), np.asarray(ids)
