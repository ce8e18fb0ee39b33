"""Panoptic quality: how well segments of things and stuff are found, and how well the found ones fit.

A panoptic map gives each pixel a class and an id; a segment is all pixels of one class and one id in an image. Counts
are made on the host, image by image, and add up. The quality is read from their sum.

0/0 is NaN and left out of means, as in all metrics of images: here a class without a segment in truth and prediction.
One number follows panopticapi instead: a class that has segments but no match has the segmentation quality 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .segmentation import mean_of_defined


@dataclass(frozen=True)
class PanopticScores:
    """Panoptic, segmentation and recognition quality: PQ = SQ · RQ for each class, not for the means."""

    numbers: dict[str, float]
    """"pq", "sq", "rq", the means over all classes that occur, and the same over things ("pq_things", …) and over stuff
    ("pq_stuff", …)."""
    class_pq: np.ndarray
    """[classes] Σ IoU of matches / (matches + ½ false positives + ½ false negatives); NaN for an absent class."""
    class_sq: np.ndarray
    """[classes] mean IoU of the matches; 0 without a match."""
    class_rq: np.ndarray
    """[classes] matches / (matches + ½ false positives + ½ false negatives)."""


def panoptic_counts(
    predicted_classes: np.ndarray,
    predicted_ids: np.ndarray,
    true_classes: np.ndarray,
    true_ids: np.ndarray,
    num_classes: int,
    crowd: np.ndarray | None = None,
) -> np.ndarray:
    """Matches the segments of each image; counts add up over images.

    A predicted and a true segment of one class match if their IoU is above ½, where void pixels of the truth are no
    part of the union. So a segment has one match at most. Crowds match nothing and are not missed. A predicted segment
    without a match is a false positive, unless more than half of it lies on void and on crowds of its class.

    Args:
      predicted_classes: [batch, height, width] integers; -1 is void, in no segment.
      predicted_ids: [batch, height, width] integers of any value, which tell segments of a class in an image apart.
      true_classes: same; -1 is void.
      true_ids: same.
      num_classes: number of classes.
      crowd: [batch, height, width] bool, true on the pixels of segments of the truth that are crowds. None means none.
    Returns: float64 [batch, classes, 4]: Σ IoU of the matches, and the numbers of matches (true positives), false
      positives and false negatives.
    Raises: InputError for other shapes or types, for a class that is not in [-1, num_classes), or for a true segment
      that is a crowd in part.
    Source: Kirillov et al. 2019, sections 4.1 and 4.2; panopticapi's `evaluation.py`. That knows one crowd of each
      class in an image, and this any number.
    """
    shape = true_classes.shape
    maps = {"predicted_classes": predicted_classes, "predicted_ids": predicted_ids, "true_classes": true_classes}
    maps |= {"true_ids": true_ids}
    for name, values in maps.items():
        if values.ndim != 3 or values.shape != shape or values.dtype.kind not in "iu":
            raise InputError(
                "panoptic_counts expects integer maps [batch, height, width] of one shape; got true_classes "
                f"{list(shape)} and {name} {values.dtype} {list(values.shape)}."
            )
        if name.endswith("classes") and values.size and not -1 <= values.min() <= values.max() < num_classes:
            wrong = values.min() if values.min() < -1 else values.max()
            raise InputError(f"{name} holds {wrong}; a class is below {num_classes}, or -1 for void.")
    crowd = np.zeros(shape, bool) if crowd is None else np.asarray(crowd)
    if crowd.shape != shape or crowd.dtype != bool:
        raise InputError(f"crowd must be a bool map {list(shape)}; got {crowd.dtype} {list(crowd.shape)}.")
    counts = np.zeros((shape[0], num_classes, 4))
    for image in range(shape[0]):
        predicted, predicted_of = _segments(predicted_classes[image], predicted_ids[image])
        true, true_of = _segments(true_classes[image], true_ids[image])
        counts[image] = _matched(predicted, predicted_of, true, true_of, crowd[image], num_classes, image)
    return counts


def panoptic_quality(counts: np.ndarray, is_thing: np.ndarray) -> PanopticScores:
    """PQ, SQ and RQ from counts.

    Args:
      counts: [classes, 4], the sum of `panoptic_counts` over all images.
      is_thing: [classes] bool, false for stuff.
    Returns: the scores.
    Raises: InputError if the shapes do not fit.
    Source: Kirillov et al. 2019, equations 1 and 2.

    >>> counts = np.array([[1.6, 2, 1, 1], [0.0, 0, 0, 0]])  # two matches of three, with IoU 0.8; the other is absent
    >>> numbers = panoptic_quality(counts, np.array([True, False])).numbers
    >>> print([round(numbers[name], 3) for name in ("pq", "sq", "rq", "pq_things", "pq_stuff")])
    [0.533, 0.8, 0.667, 0.533, nan]
    """
    counts, is_thing = np.asarray(counts, np.float64), np.asarray(is_thing)
    if counts.ndim != 2 or counts.shape[1] != 4 or is_thing.shape != counts.shape[:1] or is_thing.dtype != bool:
        raise InputError(
            f"panoptic_quality expects counts [classes, 4] and is_thing [classes], bool; got {list(counts.shape)} and "
            f"{is_thing.dtype} {list(is_thing.shape)}."
        )
    overlap, matches, false_positives, false_negatives = counts.T
    size = np.where(counts[:, 1:].any(1), matches + (false_positives + false_negatives) / 2, np.nan)
    qualities = {"pq": overlap / size, "sq": overlap / np.maximum(matches, 1) + 0 * size, "rq": matches / size}
    numbers = {}
    for suffix, chosen in (("", np.ones_like(is_thing)), ("_things", is_thing), ("_stuff", ~is_thing)):
        numbers |= {f"{name}{suffix}": mean_of_defined(values[chosen]) for name, values in qualities.items()}
    return PanopticScores(numbers, qualities["pq"], qualities["sq"], qualities["rq"])


def _segments(classes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each segment, [segments], and for each pixel its segment, [height · width], -1 for void."""
    classes, ids = classes.ravel().astype(np.int64), ids.ravel().astype(np.int64)
    of_pixel = np.full(classes.shape, -1)
    seen = classes >= 0
    _, names = np.unique(ids, return_inverse=True)  # ids may be any integers
    keys, of_pixel[seen] = np.unique(classes[seen] * (names.max(initial=0) + 1) + names[seen], return_inverse=True)
    return keys // (names.max(initial=0) + 1), of_pixel


def _matched(
    predicted: np.ndarray,
    predicted_of: np.ndarray,
    true: np.ndarray,
    true_of: np.ndarray,
    crowd: np.ndarray,
    num_classes: int,
    image: int,
) -> np.ndarray:
    """[classes, 4] counts of one image."""
    # Row 0 and column 0 are the pixels of no segment.
    shape = (len(true) + 1, len(predicted) + 1)
    joint = np.bincount((true_of + 1) * shape[1] + predicted_of + 1, minlength=shape[0] * shape[1]).reshape(shape)
    true_area, predicted_area = joint.sum(1)[1:], joint.sum(0)[1:]
    void, both = joint[0, 1:], joint[1:, 1:]
    crowd_area = np.bincount(true_of + 1, crowd.ravel(), shape[0])[1:]
    is_crowd = crowd_area > 0
    if (is_crowd & (crowd_area < true_area)).any():
        raise InputError(
            f"In image {image} a segment of the truth is a crowd in part; mark all of its pixels, or none."
        )

    same_class = true[:, None] == predicted
    iou = both / np.maximum(true_area[:, None] + predicted_area - both - void, 1)
    match = same_class & ~is_crowd[:, None] & (iou > 0.5)
    ignored = void + (both * (same_class & is_crowd[:, None])).sum(0)
    missed = ~match.any(1) & ~is_crowd
    wrong = ~match.any(0) & (ignored <= predicted_area / 2)

    columns = [
        np.bincount(true, np.where(match, iou, 0).sum(1), num_classes),
        np.bincount(true, match.any(1), num_classes),
        np.bincount(predicted, wrong, num_classes),
        np.bincount(true, missed, num_classes),
    ]
    return np.stack(columns, 1)
