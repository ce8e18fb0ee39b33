"""A split of a data set: examples by index, and what there is to say about them before one is read.

Sources know nothing of order, batches or devices. Their images are uint8, as they are stored: a quarter of
the memory of floats, and exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import numpy as np

from .order import permutation

# Examples of fewer bytes are read by one thread: their decoding is mostly Python, which a second thread only
# delays. Measured with Fashion-MNIST (784 bytes) on 2 cores: 1 thread takes 0.7 of the time of 2.
_THREADED_FROM_BYTES = 2**14


class Records(Protocol):
    """What a source reads from: a length, and examples by index, also from several threads.

    If many at once are faster, a `__getitems__(indices)`, as PyTorch calls it, may give them.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set of labelled images.

    name: as the user gave it, such as "tfds:fashion_mnist".
    split: "train", "validation" or "test".
    records: the examples.
    element_spec: "image" uint8 [height, width, channel] and "label" int32 [].
    classes: what the labels 0, 1, … stand for.
    Raises: ValueError if the images are not uint8 of rank 3.
    """

    name: str
    split: str
    records: Records
    element_spec: Mapping[str, jax.ShapeDtypeStruct]
    classes: tuple[str, ...]

    def __post_init__(self):
        image = self.element_spec["image"]
        if len(image.shape) != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"Images must be uint8 of rank 3, [height, width, channel]; those of {self.name} "
                f"are {image.dtype} of rank {len(image.shape)}, {list(image.shape)}."
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """One example, as `element_spec` says. Raises IndexError outside 0 … len-1."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} {self.split} has examples 0 … {len(self) - 1}, not {index}.")
        return dict(self.records[index])

    @property
    def nbytes(self) -> int:
        """Bytes that `arrays()` takes; counted, not allocated."""
        return len(self) * _bytes_of_one(self.element_spec)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every example, stacked: [len(self), ...]."""
        threaded = _bytes_of_one(self.element_spec) >= _THREADED_FROM_BYTES
        return self.read(np.arange(len(self)), threads=os.cpu_count() or 1 if threaded else 1)

    def read(self, indices: np.ndarray, *, threads: int = 1) -> dict[str, np.ndarray]:
        """Some examples, stacked.

        Args:
          indices: which, integer [n], each in 0 … len-1.
          threads: that read.
        Returns: what `element_spec` names, each [n, ...].
        """
        stacked = {name: np.empty((len(indices), *spec.shape), spec.dtype) for name, spec in self.element_spec.items()}

        def fill(start: int) -> None:
            for place, example in enumerate(_several(self.records, indices[start : start + _CHUNK]), start):
                for name, value in example.items():
                    stacked[name][place] = value

        starts = range(0, len(indices), _CHUNK)
        if threads == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, starts))
        return stacked


def subset(source: Source, count: int) -> Source:
    """Some examples of a split, always the same ones, in their order.

    Args:
      source: of which.
      count: how many.
    Raises: ValueError if `count` is not in 1 … len(source).
    """
    if not 1 <= count <= len(source):
        raise ValueError(f"A subset of {source.name} {source.split} has 1 to {len(source)} examples, got {count}.")
    return replace(source, records=_Some(source.records, np.sort(permutation(1, 0, len(source))[:count])))


@dataclass(frozen=True)
class _Some:
    """Records of some indices."""

    records: Records
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self.records[int(self.indices[index])]


_CHUNK = 256  # examples asked for at once


def _several(records: Records, indices: np.ndarray) -> Iterable[Mapping[str, np.ndarray]]:
    """Records by many indices: at once, where they can do that faster."""
    get = getattr(records, "__getitems__", None)
    chosen = [int(index) for index in indices]
    return get(chosen) if get is not None else (records[index] for index in chosen)


def moments(source: Source, *, limit: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, over all pixels of all images, for `augment.normalise`.

    Exact for the examples looked at: counted by value, so that neither order nor rounding matters.

    Args:
      source: of which.
      limit: look at no more than this many examples; always the same ones.
    Returns: (mean, std), float32 [channel] each, in units where 255 is 1. The std of a channel that never
      changes is 1: normalising makes it 0 everywhere, and never divides by 0.
    Raises: ValueError if `limit` is not positive or the source is empty.
    """
    if limit < 1 or not len(source):
        raise ValueError(f"Moments need at least one example, got a limit of {limit} and a source of {len(source)}.")
    chosen = np.arange(len(source))
    if len(source) > limit:
        chosen = np.sort(permutation(0, 0, len(source))[:limit])
    channels = source.element_spec["image"].shape[-1]
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


def _bytes_of_one(element_spec: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    return sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in element_spec.values())


def image_spec(height: int, width: int, channels: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The `element_spec` of labelled images of this shape."""
    return {
        "image": jax.ShapeDtypeStruct((height, width, channels), np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
