"""Metrics of semantic segmentation: overlap of classes from a confusion matrix, and agreement of boundaries.

The matrix is made on device and is a sum: parts of a batch, devices and batches add theirs, and IoU and accuracies are
read from the total once, on the host. The boundary score is a number per image and class, for the caller to average.

One rule holds in all metrics of images: a ratio of 0 to 0 is NaN, and a mean leaves NaN out. So a class that is neither
in the truth nor in the prediction counts for nothing, and one that is only predicted has IoU 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError


def confusion_matrix(
    prediction: jax.Array, truth: jax.Array, num_classes: int, weights: jax.Array | None = None
) -> jax.Array:
    """Counts the pixels of each pair (true class, predicted class). Matrices of parts of the data add up.

    Args:
      prediction: [batch, height, width] integers. A value outside [0, num_classes) predicts no class: it counts as a
        wrong answer, in the last column.
      truth: [batch, height, width] integers. -1 (and any value outside [0, num_classes)) is ignored.
      num_classes: number of classes.
      weights: [batch], the weight of each image, or None for 1. An image of weight 0 changes nothing.
    Returns: float32 [num_classes, num_classes + 1]: rows are true classes, columns predicted ones. The pixels of one
      image are counted exactly; the sum over images is rounded to 24 bits.
    Raises: InputError for other shapes or types, or without a class.

    >>> prediction, truth = jnp.array([[[0, 1, 1, 1]]]), jnp.array([[[0, 0, 1, -1]]])
    >>> print(confusion_matrix(prediction, truth, 2))
    [[1. 1. 0.]
     [0. 1. 0.]]
    """
    _check_maps("confusion_matrix", prediction, truth, num_classes)
    if weights is not None and weights.shape != truth.shape[:1]:
        raise InputError(f"confusion_matrix expects one weight for each of {len(truth)} images; got {weights.shape}.")
    column = jnp.where((prediction >= 0) & (prediction < num_classes), prediction, num_classes)
    ignored = num_classes * (num_classes + 1)
    cell = jnp.where((truth >= 0) & (truth < num_classes), truth * (num_classes + 1) + column, ignored)
    # Counted as integers: a float32 stops counting at 2^24, which one large image can reach.
    counts = jax.vmap(lambda cells: jnp.zeros(ignored + 1, jnp.int32).at[cells].add(1))(cell.reshape(len(cell), -1))
    counts = counts[:, :ignored].reshape(-1, num_classes, num_classes + 1).astype(jnp.float32)
    return counts.sum(0) if weights is None else (counts * weights.astype(jnp.float32)[:, None, None]).sum(0)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: true positives / (true positives + false positives + false negatives).

    Args:
      confusion: [classes, classes + 1] sum of `confusion_matrix` over the data; on the host.
    Returns: float64 [classes]; NaN for a class that is neither in the truth nor in the prediction.
    Source: Everingham et al. 2010 (Pascal VOC), section 4.3.
    """
    confusion = _checked(confusion)
    hits = np.diagonal(confusion)
    return _ratio(hits, confusion.sum(1) + confusion[:, :-1].sum(0) - hits)


def segmentation_scores(confusion: np.ndarray) -> dict[str, float]:
    """The usual numbers of a semantic segmentation.

    Args:
      confusion: [classes, classes + 1] sum of `confusion_matrix` over the data; on the host.
    Returns: "miou", the mean of `class_iou` over the classes that occur in truth or prediction; "mean_accuracy", the
      mean over the classes of the truth of the share of their pixels that is right; "pixel_accuracy", the share of all
      pixels that is right. NaN if no pixel is counted.
    Source: Long, Shelhamer & Darrell 2015, section 5.

    >>> print(segmentation_scores(np.array([[1, 1, 0], [0, 1, 0]])))
    {'miou': 0.5, 'mean_accuracy': 0.75, 'pixel_accuracy': 0.6666666666666666}
    """
    confusion = _checked(confusion)
    hits = np.diagonal(confusion)
    return {
        "miou": mean_of_defined(class_iou(confusion)),
        "mean_accuracy": mean_of_defined(_ratio(hits, confusion.sum(1))),
        "pixel_accuracy": float(_ratio(hits.sum(), confusion.sum())),
    }


def boundary_f(prediction: jax.Array, truth: jax.Array, num_classes: int, tolerance: float) -> jax.Array:
    """F-measure of the boundaries of each class in each image, where a boundary may be off by a tolerance.

    Precision is the share of the predicted boundary that lies within the tolerance of the true one. Recall is the share
    of the true boundary that lies within the tolerance of the predicted one. A pixel belongs to the boundary of a class
    if it is inside the class and its neighbor to the right, below, or diagonally between them is outside, or the other
    way round. A pair with an ignored pixel is no boundary, and nor is the frame of the image.

    Args:
      prediction: [batch, height, width] integers; a value outside [0, num_classes) is of no class.
      truth: [batch, height, width] integers; -1 (and any value outside [0, num_classes)) is ignored.
      num_classes: number of classes.
      tolerance: the greatest distance between centers of pixels, in pixels, that still matches. Csurka et al. take
        0.75 % of the diagonal of the image, and DAVIS 0.8 %, rounded up.
    Returns: float32 [batch, classes]. 0 if only one of the two has a boundary; NaN if neither has (DAVIS says 1).
      Papers average over images for each class, then over classes.
    Raises: InputError for other shapes or types, without a class, or for a tolerance that is negative or not finite.
    Source: Csurka, Larlus & Perronnin 2013, section 2.2; Perazzi et al. 2016 (DAVIS), section 5.1.
    """
    _check_maps("boundary_f", prediction, truth, num_classes)
    if not 0 <= tolerance < np.inf:
        raise InputError(f"tolerance is {tolerance}; it must be a number of pixels, at least 0.")
    classes = jnp.arange(num_classes)[:, None, None]
    valid = ((truth >= 0) & (truth < num_classes))[:, None]
    predicted = _boundary(prediction[:, None] == classes, valid)
    true = _boundary(truth[:, None] == classes, valid)

    def share(part: jax.Array, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = part.sum((2, 3))
        return (part & _dilated(whole, tolerance)).sum((2, 3)) / jnp.maximum(size, 1), size

    precision, num_predicted = share(predicted, true)
    recall, num_true = share(true, predicted)
    score = 2 * precision * recall / jnp.where(precision + recall > 0, precision + recall, 1)
    return jnp.where(num_predicted + num_true > 0, score, jnp.nan)


def mean_of_defined(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if there are none. The rule of every mean over classes or images."""
    values = np.asarray(values, np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _boundary(inside: jax.Array, valid: jax.Array) -> jax.Array:
    """Pixels, [batch, classes, height, width], one of whose three later neighbors is on the other side."""
    height, width = inside.shape[2:]
    valid = jnp.broadcast_to(valid, inside.shape)
    boundary = jnp.zeros_like(inside)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        here = np.s_[:, :, : height - dy, : width - dx]
        there = np.s_[:, :, dy:, dx:]
        boundary = boundary.at[here].max((inside[here] != inside[there]) & valid[here] & valid[there])
    return boundary


def _dilated(mask: jax.Array, radius: float) -> jax.Array:
    """Pixels whose distance to the mask, [batch, classes, height, width], is at most the radius."""
    reach = int(radius)
    height, width = mask.shape[2:]
    padded = jnp.pad(mask, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    dilated = jnp.zeros_like(mask)
    # One fused pass over all offsets: on a CPU 200 times faster than a convolution with the disk.
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy**2 + dx**2 <= radius**2:
                dilated |= padded[:, :, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    return dilated


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise; NaN where the denominator is 0, silently."""
    return np.where(denominator > 0, numerator, np.nan) / np.where(denominator > 0, denominator, 1)


def _checked(confusion: np.ndarray) -> np.ndarray:
    confusion = np.asarray(confusion, np.float64)
    if confusion.ndim != 2 or confusion.shape[1] != confusion.shape[0] + 1:
        raise InputError(f"A confusion matrix is [classes, classes + 1]; got {list(confusion.shape)}.")
    return confusion


def _check_maps(function: str, prediction: jax.Array, truth: jax.Array, num_classes: int) -> None:
    integers = all(jnp.issubdtype(values.dtype, jnp.integer) for values in (prediction, truth))
    if prediction.shape != truth.shape or truth.ndim != 3 or not integers:
        raise InputError(
            f"{function} expects integer maps [batch, height, width] of one shape; got prediction {prediction.dtype} "
            f"{list(prediction.shape)} and truth {truth.dtype} {list(truth.shape)}."
        )
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1.")
