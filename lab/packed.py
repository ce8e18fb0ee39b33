"""Masks and maps of whole splits, small enough to be kept: masks as run lengths, maps compressed.

What a detector finds in 5,000 images of 512×512 would be 131 GB as arrays of 100 masks each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..data import Source, mask_of, run_lengths, select
from .arrays import evaluation_batch

Rows = Mapping[str, np.ndarray]
MASKS, MAPS = "masks", ("classes", "ids", "semantic")


class Packed(NamedTuple):
    """A compressed array."""

    shape: tuple[int, ...]
    dtype: str
    content: bytes

    @staticmethod
    def of(array: np.ndarray) -> Packed:
        """Compresses an array."""
        return Packed(array.shape, array.dtype.str, zlib.compress(np.ascontiguousarray(array).tobytes(), 1))

    @property
    def array(self) -> np.ndarray:
        """The array."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)


def pack(rows: Rows) -> dict[str, np.ndarray]:
    """Rows of images with "masks" [n, objects, height, width] as run lengths, objects [n, objects], and with "classes",
    "ids" and "semantic" [n, height, width] compressed, objects [n]. Other arrays stay as they are."""
    packed = dict(rows)
    if MASKS in rows:
        packed[MASKS] = np.empty(rows[MASKS].shape[:2], object)
        for place in np.ndindex(packed[MASKS].shape):
            packed[MASKS][place] = run_lengths(rows[MASKS][place])
    for name in MAPS:
        if name in rows:
            packed[name] = np.empty(len(rows[name]), object)
            packed[name][:] = [Packed.of(each) for each in rows[name]]
    return packed


def unpack(rows: Rows, count: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of the first images (None for all) of what `pack` packed."""
    arrays = {name: each[:count] for name, each in rows.items()}
    if MASKS in arrays:
        arrays[MASKS] = np.array([[mask_of(rle) for rle in image] for image in arrays[MASKS]])
    for name in MAPS:
        if name in arrays:
            arrays[name] = np.array([each.array for each in arrays[name]])
    return arrays


def chunks(source: Source, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of these names that the examples of a split have, a few images at a time."""
    chosen, size = select(source, [name for name in names if name in source.element_spec]), evaluation_batch(source)
    for start in range(0, len(source), size):
        yield chosen.read(np.arange(start, min(start + size, len(source))))


def read_packed(source: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The packed rows of a split, read a few images at a time: the arrays of these names that the examples have."""
    parts = [pack(each) for each in chunks(source, names)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
