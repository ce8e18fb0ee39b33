"""Agreement of two partitions of an image into regions: V-Rand, V-info and the adapted Rand error.

A partition is a map of labels of which only equality matters, with 0 for the border between regions. The scores treat
pixels of the truth's border as absent. NumPy computes everything on the host, image by image.

The challenge ISBI 2012 scores maps of what is inside cells. There the regions of the truth are its 4-connected
components. Those of a prediction have their borders thinned first (`thin_borders`), because the width of a border is no
error. 0/0 is NaN and left out of means, as in all metrics of images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .segmentation import mean_of_defined

ISBI_THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(10))
"""Thresholds of the probability of the inside of a cell among which the challenge takes the best (it adds 1.0, above
which there is nothing)."""


class Agreement(NamedTuple):
    """How well two partitions agree, each number in [0, 1], 1 for equal partitions."""

    f: float
    """Harmonic mean of `split` and `merge`."""
    split: float
    """1 if no region of the truth is split: the recall of pairs of pixels that belong together."""
    merge: float
    """1 if no regions of the truth are merged: the precision of pairs of pixels that belong together."""


def v_rand(truth: np.ndarray, prediction: np.ndarray) -> Agreement:
    """Foreground-restricted Rand score. Two pixels, drawn with replacement, belong together in both partitions or not.

    Args:
      truth: integer labels of any shape. Pixels of 0 do not count.
      prediction: integer labels of the same shape. Each pixel of 0 is a region of its own.
    Returns: split = Σ p_ij² / Σ t_j², merge = Σ p_ij² / Σ s_i² and their harmonic mean, where p_ij is the share of
      pixels in predicted region i and true region j, and s_i and t_j are its sums. NaN if no pixel counts.
    Raises: InputError for other shapes or types.
    Source: Arganda-Carreras et al. 2015, V^Rand with α = 1/2; border pixels as in Fiji's `RandError`.

    >>> v_rand(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))  # all merged: half of the pairs are wrong
    Agreement(f=0.6666666666666666, split=1.0, merge=0.5)
    """
    joint, true, predicted, loose = _sizes("v_rand", truth, prediction)
    both, truly, predictedly = (float((sizes**2).sum()) for sizes in (joint, true, predicted))
    both, predictedly = both + loose, predictedly + loose
    return Agreement(_ratio(2 * both, truly + predictedly), _ratio(both, truly), _ratio(both, predictedly))


def v_info(truth: np.ndarray, prediction: np.ndarray) -> Agreement:
    """Foreground-restricted information theoretic score: the mutual information of the partitions over their entropies.

    Args: same as `v_rand`.
    Returns: split = I(S; T) / H(S), merge = I(S; T) / H(T), and their harmonic mean, for the predicted partition S and
      the true one T. A partition of a single region has no entropy: its score is NaN.
    Raises: InputError for other shapes or types.
    Source: Arganda-Carreras et al. 2015, V^info with α = 1/2; border pixels as in Fiji's `VariationOfInformation`.
    """
    joint, true, predicted, loose = _sizes("v_info", truth, prediction)
    total = true.sum()
    alone = loose * np.log(total) / total if loose else 0.0

    def entropy(sizes: np.ndarray) -> float:
        shares = sizes / max(total, 1)
        return float(-(shares * np.log(shares)).sum())

    of_truth, of_prediction = entropy(true), entropy(predicted) + alone
    information = of_truth + of_prediction - (entropy(joint) + alone)
    information = float(np.clip(information, 0, min(of_truth, of_prediction)))  # rounding
    return Agreement(
        _ratio(2 * information, of_truth + of_prediction),
        _ratio(information, of_prediction),
        _ratio(information, of_truth),
    )


def adapted_rand_error(truth: np.ndarray, prediction: np.ndarray) -> float:
    """1 − F-score of pairs of different pixels that belong together, the error of the SNEMI3D challenge.

    It differs from 1 − `v_rand` in two ways: no pixel is paired with itself, and predicted pixels of 0 are one region.

    Args:
      truth: integer labels of any shape. Pixels of 0 do not count.
      prediction: integer labels of the same shape.
    Returns: a number in [0, 1], 0 for equal partitions. NaN if no two pixels belong together in either.
    Raises: InputError for other shapes or types.
    Source: Arganda-Carreras et al. 2015; scikit-image's `adapted_rand_error`.
    """
    sizes = _sizes("adapted_rand_error", truth, prediction, loose_zeros=False)[:3]
    both, truly, predictedly = (float((size * (size - 1)).sum()) for size in sizes)
    return 1 - _ratio(2 * both, truly + predictedly)


def regions(inside: np.ndarray) -> np.ndarray:
    """Labels the 4-connected components of what is inside of cells.

    Args:
      inside: [height, width] bool.
    Returns: int32 [height, width], 1, 2, … in the regions and 0 outside.
    """
    from scipy import ndimage  # it takes half a second to import

    regions, _ = ndimage.label(inside)  # pyright: ignore[reportGeneralTypeIssues]  # without `output` a pair
    return np.asarray(regions, np.int32)


def thin_borders(inside: np.ndarray) -> np.ndarray:
    """Regions that have grown into their borders until they meet: a watershed of the binary image.

    All regions grow at the same speed, in steps of 4-connected pixels. A pixel that has two regions beside it when it
    is reached stays a border. So borders are about one pixel wide, and a line that ends within a region is gone.

    Args:
      inside: [height, width] bool, true inside of cells.
    Returns: int32 [height, width], labels of regions, 0 on what is left of borders. Without any region, all is one.
    Source: Vincent & Soille 1991, in the order of pixels of Fiji's `WatershedTransform2D`, which the challenge's script
      calls. The order decides only where in a border of even width its line runs.
    """
    if not inside.any():
        return np.ones(inside.shape, np.int32)
    height, width = inside.shape
    # A frame of -1, neither a region nor waiting, spares all tests of bounds. Lists are faster than arrays here.
    stride = width + 2
    labels = np.pad(np.where(inside, regions(inside), -2), 1, constant_values=-1).ravel().tolist()
    steps = (-1, -stride, 1, stride)
    waiting, queued = -2, -3
    queue = deque()
    for x in range(1, width + 1):  # column by column, as Fiji does
        for pixel in range(stride + x, stride * (height + 1) + x, stride):
            if labels[pixel] == waiting and any(labels[pixel + step] > 0 for step in steps):
                queue.append(pixel)
    for pixel in queue:
        labels[pixel] = queued
    while queue:
        pixel = queue.popleft()
        beside = set()
        for step in steps:
            label = labels[pixel + step]
            if label > 0:
                beside.add(label)
            elif label == waiting:
                labels[pixel + step] = queued
                queue.append(pixel + step)
        labels[pixel] = beside.pop() if len(beside) == 1 else 0
    return np.array(labels, np.int32).reshape(height + 2, stride)[1:-1, 1:-1]


def isbi_scores(inside: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """V-Rand and V-info of binary sections, with the borders of the prediction thinned: means over the sections.

    Args:
      inside: [sections, height, width] bool, true where the inside of a cell is predicted, false on membranes.
      truth: the same of the truth.
    Returns: "v_rand", "v_rand_split", "v_rand_merge", "v_info", "v_info_split", "v_info_merge".
    Raises: InputError if the shapes differ or have another rank, or if a map is not bool.
    Source: Arganda-Carreras et al. 2015, "foreground-restricted Rand scoring after border thinning".
    """
    if inside.shape != truth.shape or truth.ndim != 3 or inside.dtype != bool or truth.dtype != bool:
        raise InputError(
            "isbi_scores expects bool maps [sections, height, width] of one shape; got prediction "
            f"{inside.dtype} {list(inside.shape)} and truth {truth.dtype} {list(truth.shape)}."
        )
    scores = {}
    partitions = [(regions(true), thin_borders(predicted)) for true, predicted in zip(truth, inside, strict=True)]
    for name, score in (("v_rand", v_rand), ("v_info", v_info)):
        agreements = [score(true, predicted) for true, predicted in partitions]
        for part, suffix in (("f", ""), ("split", "_split"), ("merge", "_merge")):
            scores[name + suffix] = mean_of_defined(np.array([getattr(each, part) for each in agreements]))
    return scores


def best_isbi_scores(
    probabilities: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = ISBI_THRESHOLDS
) -> dict[str, float]:
    """The challenge's scores: the greatest mean over the sections that a threshold reaches.

    The challenge chooses the threshold on the sections that it scores. For a number about new images, choose it on
    others and call `isbi_scores`.

    Args:
      probabilities: [sections, height, width] of the inside of cells.
      truth: [sections, height, width] bool, true inside of cells.
      thresholds: the inside is where the probability exceeds one of these.
    Returns: "v_rand" and "v_info", each the greatest, and "v_rand_threshold" and "v_info_threshold", where.
    Raises: InputError as `isbi_scores`, or without a threshold.
    """
    if not len(thresholds):
        raise InputError("best_isbi_scores needs at least one threshold; got none.")
    found = {threshold: isbi_scores(probabilities > threshold, truth) for threshold in thresholds}
    best = {}
    for name in ("v_rand", "v_info"):
        threshold = max(found, key=lambda each: np.nan_to_num(found[each][name], nan=-1))
        best |= {name: found[threshold][name], f"{name}_threshold": float(threshold)}
    return best


def _sizes(
    function: str, truth: np.ndarray, prediction: np.ndarray, loose_zeros: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Numbers of pixels of the intersections, the true and the predicted regions, and those in no predicted region."""
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.dtype.kind not in "iu" or prediction.dtype.kind not in "iu":
        raise InputError(
            f"{function} expects integer labels of one shape; got truth {truth.dtype} {list(truth.shape)} and "
            f"prediction {prediction.dtype} {list(prediction.shape)}."
        )
    prediction, truth = prediction[truth != 0], truth[truth != 0]
    names, rows, true = np.unique(truth, return_inverse=True, return_counts=True)
    in_region = (prediction != 0) | (not loose_zeros)
    _, columns, predicted = np.unique(prediction[in_region], return_inverse=True, return_counts=True)
    joint = np.unique(columns * len(names) + rows[in_region], return_counts=True)[1]
    return joint.astype(np.float64), true.astype(np.float64), predicted.astype(np.float64), int((~in_region).sum())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")
