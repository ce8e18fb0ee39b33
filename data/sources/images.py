"""What sources of images have in common: their element spec, its check, and the moments of their pixels.

Images are uint8, as they are stored: a quarter of the memory of floats, and exact.
"""

from __future__ import annotations

import jax
import numpy as np

from ...errors import InputError, listed
from ..order import permutation
from .source import Source


def image_spec(height: int, width: int, channels: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The `element_spec` of labeled images: "image" uint8 [height, width, channels] and "label" int32 []."""
    return {
        "image": jax.ShapeDtypeStruct((height, width, channels), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }


def require_images(source: Source) -> tuple[int, int, int]:
    """The shape of a source's images.

    Args:
      source: A split whose examples have "image".
    Returns: (height, width, channels).
    Raises: InputError if the examples have no image, or one that is not uint8 of rank 3.

    >>> from etude import data
    >>> require_images(data.load("digits", "train"))
    (8, 8, 1)
    """
    image = source.element_spec.get("image")
    if image is None:
        raise InputError(f"{source.name} has no images: its examples have {listed(source.element_spec)}.")
    if len(image.shape) != 3 or image.dtype != np.uint8:
        raise InputError(
            f"Images must be uint8 of rank 3, [height, width, channel]; those of {source.name} are {image.dtype} of "
            f"rank {len(image.shape)}, {list(image.shape)}."
        )
    height, width, channels = image.shape
    return height, width, channels


def labels(source: Source) -> np.ndarray:
    """The label of every example, int32 [len(source)].

    Images are not decoded for it where the records know their labels (an optional property `labels`).

    Args:
      source: a split whose examples have "label".
    Raises: InputError if they have none.

    >>> from etude import data
    >>> data.labels(data.load("digits", "train"))[:5]
    array([0, 1, 4, 5, 7], dtype=int32)
    """
    if "label" not in source.element_spec:
        raise InputError(f"{source.name} has no labels: its examples have {listed(source.element_spec)}.")
    known = getattr(source.records, "labels", None)
    if known is None:
        chunks = range(0, len(source), _CHUNK)
        indices = np.arange(len(source))
        known = np.concatenate([source.read(indices[start : start + _CHUNK])["label"] for start in chunks])
    return np.asarray(known, np.int32)


_CHUNK = 256  # images read at once


def moments(source: Source, *, limit: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, over all pixels of all images, for `augment.normalize`.

    They are exact for the examples looked at: pixels are counted by value, so that neither order nor rounding matters.

    Args:
      source: A split of images.
      limit: Largest number of examples to look at; always the same ones.
    Returns: (mean, std), float32 [channel] each, in units where 255 is 1. A channel that never changes has std 1, so
      that normalizing makes it 0 everywhere and never divides by 0.
    Raises: InputError if `limit` is not positive, the source is empty, or it is not one of images.

    >>> from etude import data
    >>> mean, std = moments(data.load("digits", "train"))
    >>> mean.round(2), std.round(2)
    (array([0.3], dtype=float32), array([0.38], dtype=float32))
    """
    channels = require_images(source)[-1]
    if limit < 1 or not len(source):
        raise InputError(f"Moments need at least one example, got a limit of {limit} and a source of {len(source)}.")
    chosen = np.arange(len(source))
    if len(source) > limit:
        chosen = np.sort(permutation(0, 0, len(source))[:limit])
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(chosen), _CHUNK):
        images = source.read(chosen[start : start + _CHUNK])["image"]
        for channel in range(channels):
            counts[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    constant = (counts > 0).sum(axis=1) == 1
    return mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32)
