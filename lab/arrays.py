"""Arrays on their way through an experiment: in batches, between others, over seeds, into files and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import train
from ..data import Source, in_memory
from ..errors import InputError, MissingFile, listed, writing
from .options import BatchOptions
from .tables import Named

EVALUATION_BATCH = 256  # examples at a time where nothing is trained: results do not depend on it, up to rounding
_PIXELS_AT_ONCE = 2**22  # of images: as many as 16 of 512×512 have
_TOKENS_AT_ONCE = 2**13  # of texts: 64 rows of 128, whose logits take 260 MB where there are 8000 tokens


def evaluation_batch(source: Source) -> int:
    """Number of examples of a split at a time where nothing is trained: fewer of large images and of long texts, which
    take memory.

    >>> from etude import data
    >>> evaluation_batch(data.load("digits", "test"))
    256
    """
    image = source.element_spec.get("image")
    if image is not None:
        return min(EVALUATION_BATCH, max(1, _PIXELS_AT_ONCE // math.prod(image.shape[:2])))
    tokens = max((each.shape[0] for each in source.element_spec.values() if each.shape), default=1)
    return min(EVALUATION_BATCH, max(1, _TOKENS_AT_ONCE // tokens))


def read_once(source: Source, batch: BatchOptions) -> Source:
    """The same split, for what reads it more than once: read now and kept, if its examples are to stay on the devices.

    Args:
      source: the split.
      batch: says where examples stay.
    """
    return in_memory(source) if train.is_resident(source, batch.resident) else source


def in_batches(function: Callable, *arrays: Any, size: int = EVALUATION_BATCH) -> Any:
    """Applies a compiled function to batches of one size, as equal as can be; the last is filled up with its last row.

    Args:
      function: arrays [size, …] -> tree of [size, …], row by row.
      arrays: [n, …] each.
      size: largest size of a batch.
    Returns: the tree, of NumPy arrays [n, …].

    >>> in_batches(lambda x: 2 * x, np.arange(5), size=2).tolist()
    [0, 2, 4, 6, 8]
    """
    count = len(arrays[0])
    size = -(-count // -(-count // size))
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(jax.tree.map(np.asarray, function(*(array[rows] for array in arrays))))
    return jax.tree.map(lambda *each: np.concatenate(each)[:count], *parts)


def between(first: jax.Array, last: jax.Array, count: int) -> jax.Array:
    """Points on the circle between normal vectors: [count, …]. (A mean of two would be too short for noise.)"""
    angles = jnp.linspace(0, jnp.pi / 2, count)
    return jnp.stack([jnp.cos(angle) * first + jnp.sin(angle) * last for angle in angles])


def between_pairs(encodings: np.ndarray, count: int) -> np.ndarray:
    """Points on the lines between encodings 0 and 1, 2 and 3, …: [at most 10 pairs, count, …].

    Encodings are not drawn from a normal distribution; for noise, use `between`.
    """
    pairs = min(10, len(encodings) // 2)
    ends = encodings[: 2 * pairs].reshape(pairs, 2, 1, *encodings.shape[1:])
    part = np.linspace(0, 1, count).reshape(1, count, *[1] * (encodings.ndim - 1))
    return (1 - part) * ends[:, 0] + part * ends[:, 1]


def over_seeds(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number and, of several seeds, `<name>_std`.

    Raises: `train.Diverged` if a number is not finite: no training that went well ends so.

    >>> over_seeds([{"loss": 1.0}, {"loss": 3.0}])
    {'loss': 2.0, 'loss_std': 1.0}
    """
    columns = {name: np.array([report[name] for report in reports]) for name in reports[0]}
    for name, column in columns.items():
        if not np.isfinite(column).all():
            raise train.Diverged(f"{name} is {listed(f'{x:g}' for x in column)}. Try a lower learning rate.")
    return mean_over_seeds(reports, tuple(columns) if len(reports) > 1 else ())


def mean_over_seeds(reports: Sequence[Mapping[str, float]], spread: Sequence[str] = ()) -> dict[str, float]:
    """The mean of each number, NaN where one of them is not defined, and `<name>_std` of those in `spread`.

    >>> mean_over_seeds([{"map": 1.0, "ar": 0.5}, {"map": 0.0, "ar": 0.5}], spread=["map"])
    {'map': 0.5, 'ar': 0.5, 'map_std': 0.5}
    """
    columns = {name: np.array([report[name] for report in reports]) for name in reports[0]}
    means = {name: float(column.mean()) for name, column in columns.items()}
    return means | {f"{name}_std": float(columns[name].std()) for name in spread}


def save_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Writes an .npz file, all of it or nothing."""
    partial = file.with_suffix(".partial.npz")
    with writing(file):
        np.savez_compressed(partial, allow_pickle=False, **arrays)
        partial.replace(file)


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises: MissingFile if there is none; InputError if it is damaged.
    """
    if not file.is_file():
        raise MissingFile(f"There is no file {file}.")
    try:
        with np.load(file) as arrays:
            return Named(file, dict(arrays))
    except Exception as error:  # of a damaged archive: BadZipFile, zlib.error, EOFError, ValueError, …
        raise InputError(f"{file} is damaged: {error}.") from error
