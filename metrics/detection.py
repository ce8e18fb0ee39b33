"""Average precision and recall of detections, of boxes and of masks, by the rules of COCO.

pycocotools, COCO's own evaluation, computes them on the host. Here padded arrays become its annotations, and its tables
become numbers by name. Its rules in short: within a class, detections of all images are sorted by score, and each takes
the free object with which it overlaps most. Precision is read at 101 recalls and averaged over ten thresholds of IoU,
0.5, 0.55, … 0.95. Only the 100 best detections of each image and class count. A detection that lies in a crowd counts
for nothing, and nor does one that has no match and an area outside the range. Equal scores keep their order.

0/0 is NaN and left out of means, as in all metrics of images: a class without objects has no average precision.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InputError
from .segmentation import mean_of_defined

Rle = Mapping[str, Any]
"""A mask as COCO's run-length code: {"size": [height, width], "counts": bytes, text or list}."""


class Detections(NamedTuple):
    """What was found in one image. Entries of label -1 are padding."""

    regions: np.ndarray | Sequence[Rle]
    """Boxes [n, 4] as (x0, y0, x1, y1) in pixels, or masks [n, height, width] of 0 and 1, or n run-length codes."""
    scores: np.ndarray
    """[n], higher is surer."""
    labels: np.ndarray
    """[n] integers, the class."""


class Objects(NamedTuple):
    """What is in one image. Entries of label -1 are padding."""

    regions: np.ndarray | Sequence[Rle]
    """Same as those of `Detections`."""
    labels: np.ndarray
    """[n] integers, the class."""
    crowd: np.ndarray | None = None
    """[n] bool: a region of many objects, in which any number of detections may lie. None means no crowds."""
    areas: np.ndarray | None = None
    """[n], the area in pixels that says whether an object is small, medium or large; None takes that of the region.
    COCO's annotations have the area of the mask, also where boxes are evaluated."""


@dataclass(frozen=True)
class DetectionScores:
    """COCO's numbers, and those of each class."""

    numbers: dict[str, float]
    """"map" (mean average precision over IoU 0.5 to 0.95), "map50", "map75", "map_small", "map_medium", "map_large" (of
    objects of up to 32², 32² to 96² and at least 96² pixels), and the average recall "ar_1", "ar_10", "ar_100" with so
    many detections per image and class, "ar_small", "ar_medium", "ar_large" with 100. NaN without such objects."""
    class_ap: np.ndarray
    """[classes] average precision over IoU 0.5 to 0.95; NaN for a class without objects."""
    class_ap50: np.ndarray
    """[classes] average precision at IoU 0.5."""
    class_ar: np.ndarray
    """[classes] average recall over IoU 0.5 to 0.95 with 100 detections."""


def box_detection_scores(
    detections: Sequence[Detections], objects: Sequence[Objects], num_classes: int
) -> DetectionScores:
    """Average precision and recall of boxes.

    Args:
      detections: one for each image, with boxes [n, 4]. A box without area matches nothing.
      objects: one for each image, in the same order.
      num_classes: number of classes; labels are 0 … num_classes − 1, and -1 for padding.
    Returns: the scores. The order of images matters only among equal scores.
    Raises: InputError if numbers of images or entries differ, or for a label, box or score that is not valid.
    Source: Lin et al. 2014 (COCO); pycocotools' `COCOeval`.

    >>> truth = Objects(np.array([[0, 0, 10, 10]]), np.array([0]))
    >>> found = Detections(np.array([[0, 0, 10, 8]]), np.array([0.9]), np.array([0]))  # IoU 0.8
    >>> print(round(box_detection_scores([found], [truth], 1).numbers["map"], 6))  # 7 of 10 thresholds
    0.7
    """
    return _scores("bbox", _as_boxes, detections, objects, num_classes)


def mask_detection_scores(
    detections: Sequence[Detections], objects: Sequence[Objects], num_classes: int
) -> DetectionScores:
    """Average precision and recall of masks.

    Args:
      detections: one for each image, with masks [n, height, width] or run-length codes. An empty mask matches nothing.
      objects: one for each image, in the same order, with masks of the same size.
      num_classes: same as in `box_detection_scores`.
    Returns, Raises, Source: same as `box_detection_scores`; masks of one image that differ in size are refused.
    """
    return _scores("segm", _as_codes, detections, objects, num_classes)


def _scores(
    kind: Literal["bbox", "segm"],
    annotated: Callable[[Any, np.ndarray, str], list[dict[str, Any]]],
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    num_classes: int,
) -> DetectionScores:
    if len(detections) != len(objects):
        raise InputError(f"There are detections of {len(detections)} images and objects of {len(objects)}.")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1.")
    found, true = [], []
    for image, (detected, truth) in enumerate(zip(detections, objects, strict=True)):
        kept = _kept(f"detections of image {image}", detected.regions, detected.labels, num_classes)
        scores = _column(f"scores of image {image}", detected.scores, kept)
        annotations = annotated(detected.regions, kept, f"detections of image {image}")
        found += _rows(annotations, image, np.asarray(detected.labels)[kept], score=scores)

        kept = _kept(f"objects of image {image}", truth.regions, truth.labels, num_classes)
        marks = {}
        if truth.areas is not None:
            marks["area"] = _column(f"areas of image {image}", truth.areas, kept)
        if truth.crowd is not None:
            marks["iscrowd"] = _column(f"crowd of image {image}", truth.crowd, kept).astype(int)
        regions = annotated(truth.regions, kept, f"objects of image {image}")
        true += _rows(regions, image, np.asarray(truth.labels)[kept], **marks)
        if kind == "segm" and len({tuple(each["segmentation"]["size"]) for each in annotations + regions}) > 1:
            raise InputError(f"The masks of image {image} differ in size; all must be of one height and width.")
    return _summary(*_evaluated(kind, found, true, len(detections), num_classes))


def _evaluated(
    kind: Literal["bbox", "segm"],
    found: list[dict[str, Any]],
    true: list[dict[str, Any]],
    num_images: int,
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' tables: precision [IoU, recall, class, area, number] and recall [IoU, class, area, number]."""
    from pycocotools import cocoeval

    evaluation: Any = cocoeval.COCOeval(iouType=kind)  # of a library that annotates less than it takes
    evaluation.params.imgIds, evaluation.params.catIds = list(range(num_images)), list(range(num_classes))
    evaluation.cocoGt, evaluation.cocoDt = _Annotations(true), _Annotations(found)
    # Both methods print their progress. They run here as copies that have a `print` of their own, which says nothing:
    # redirecting stdout would silence other threads too.
    silent = {**vars(cocoeval), "print": lambda *_: None}
    for method in (cocoeval.COCOeval.evaluate, cocoeval.COCOeval.accumulate):
        types.FunctionType(method.__code__, silent, argdefs=method.__defaults__)(evaluation)
    return evaluation.eval["precision"], evaluation.eval["recall"]


class _Annotations:
    """As much of pycocotools' `COCO` as its evaluation asks for; that class prints while it is made."""

    def __init__(self, annotations: list[dict[str, Any]]):
        # An id of 0 would read as "no match" in its tables.
        self.annotations = [{**each, "id": number} for number, each in enumerate(annotations, 1)]

    def getAnnIds(self, imgIds: Iterable[int], catIds: Iterable[int]) -> range:
        return range(len(self.annotations))

    def loadAnns(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        return [self.annotations[index] for index in ids]

    def annToRLE(self, annotation: dict[str, Any]) -> Rle:
        return annotation["segmentation"]


def _summary(precision: np.ndarray, recall: np.ndarray) -> DetectionScores:
    # pycocotools writes -1 where a class has no objects.
    precision, recall = (np.where(table < 0, np.nan, table) for table in (precision, recall))
    numbers = {
        "map": mean_of_defined(precision[..., 0, 2]),
        "map50": mean_of_defined(precision[0, ..., 0, 2]),
        "map75": mean_of_defined(precision[5, ..., 0, 2]),
    }
    sizes = ("small", "medium", "large")
    numbers |= {f"map_{size}": mean_of_defined(precision[..., area, 2]) for area, size in enumerate(sizes, 1)}
    numbers |= {f"ar_{most}": mean_of_defined(recall[..., 0, index]) for index, most in enumerate((1, 10, 100))}
    numbers |= {f"ar_{size}": mean_of_defined(recall[..., area, 2]) for area, size in enumerate(sizes, 1)}
    # A class has all of its entries or none, so that NaN stays NaN in a plain mean.
    return DetectionScores(
        numbers,
        class_ap=precision[..., 0, 2].mean((0, 1)),
        class_ap50=precision[0, ..., 0, 2].mean(0),
        class_ar=recall[..., 0, 2].mean(0),
    )


def _rows(
    annotations: list[dict[str, Any]], image: int, labels: np.ndarray, **columns: np.ndarray
) -> list[dict[str, Any]]:
    """One annotation for each region, in the names of COCO's files."""
    rows = [
        {"image_id": image, "category_id": int(label), "iscrowd": 0, **each}
        for label, each in zip(labels, annotations, strict=True)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = value
    return rows


def _as_boxes(boxes: Any, kept: np.ndarray, what: str) -> list[dict[str, Any]]:
    boxes = np.asarray(boxes, np.float64)
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise InputError(f"The boxes of {what} must be [n, 4]; got {list(boxes.shape)}.")
    corners = boxes.reshape(-1, 4)[kept]
    sizes = corners[:, 2:] - corners[:, :2]
    wrong = np.flatnonzero(~(np.isfinite(corners).all(1) & (sizes >= 0).all(1)))
    if len(wrong):
        raise InputError(
            f"A box is (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1; got {corners[wrong[0]].tolist()} in {what}."
        )
    return [
        {"bbox": [*corner, *size], "area": size[0] * size[1]}
        for corner, size in zip(corners[:, :2].tolist(), sizes.tolist(), strict=True)
    ]


def _as_codes(masks: Any, kept: np.ndarray, what: str) -> list[dict[str, Any]]:
    coco_masks: Any = import_module("pycocotools.mask")  # its annotations are narrower than what it takes
    indices = np.flatnonzero(kept).tolist()
    if not isinstance(masks, Sequence):
        masks = np.asarray(masks)
        if masks.size and masks.ndim != 3:
            raise InputError(f"The masks of {what} must be [n, height, width]; got {list(masks.shape)}.")
        codes = [coco_masks.encode(np.asfortranarray(masks[index] != 0, np.uint8)) for index in indices]
    else:
        codes = [_packed(masks[index], what) for index in indices]
    return [{"segmentation": code, "area": float(coco_masks.area(code))} for code in codes]


def _packed(code: Rle, what: str) -> Rle:
    """A run-length code in the packed form; codes in files are often lists of runs."""
    coco_masks: Any = import_module("pycocotools.mask")
    if not isinstance(code, Mapping) or not {"size", "counts"} <= code.keys():
        raise InputError(f"A mask of {what} must be an array or a run-length code with size and counts; got {code!r}.")
    if not isinstance(code["counts"], list):
        return code
    height, width = code["size"]
    if sum(code["counts"]) != height * width:
        raise InputError(f"A run-length code of {what} has {sum(code['counts'])} pixels; its size is {height}x{width}.")
    return coco_masks.frPyObjects(dict(code), height, width)


def _kept(what: str, regions: Any, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[n] bool: which entries are no padding."""
    labels = np.asarray(labels)
    if labels.shape != (len(regions),) or (labels.size and labels.dtype.kind not in "iu"):
        raise InputError(
            f"The labels of {what} must be {len(regions)} integers, one for each region; got {labels.dtype} "
            f"{list(labels.shape)}."
        )
    wrong = labels[(labels < -1) | (labels >= num_classes)]
    if len(wrong):
        raise InputError(f"A label of {what} is {wrong[0]}; it must be below {num_classes}, or -1 for padding.")
    return labels >= 0


def _column(what: str, values: Any, kept: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != kept.shape or not np.isfinite(values[kept]).all():
        raise InputError(f"The {what} must be {len(kept)} finite numbers, one for each region; got {values.tolist()}.")
    return values[kept]
