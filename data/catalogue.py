"""Data sets by name: the one place that interprets what a user writes after `--data`.

A name is a kind and, for kinds with many sets, a colon and which one. Each kind is a row of `_KINDS`; the
module behind it is imported when a set of its kind is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from .source import Source
from .splits import SPLITS


def load(name: str, split: str, *, data_dir: str | Path | None = None, image_size: int | None = None) -> Source:
    """One split of a data set.

    The splits of a set are the same in every run, whatever its seed, and no example is in two of them. What a
    set does not come with is carved from what it has; `splits.assign` says how.

    Args:
      name: one of the forms that `names()` lists.
      split: "train", "validation" or "test".
      data_dir: where prepared TensorFlow data sets are; by default where tfds has them (TFDS_DATA_DIR, or
        ~/tensorflow_datasets). Other kinds do not use it.
      image_size: resizes every image, the shorter side to this many pixels, and crops the centre to a square
        of them. Needed for sets whose images differ in size.
    Returns: the split; its images are uint8 [height, width, channel], its labels int32.
    Raises:
      ValueError: an unknown name or split, an image size that is missing or not positive, a set that is not
        one of labelled images.
      FileNotFoundError: the set is not there; for tfds, with the command that gets it.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}. Valid are: {', '.join(SPLITS)}.")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {image_size}.")
    kind, colon, rest = name.partition(":")
    row = _KINDS.get(kind)
    if row is None or bool(rest) != row.takes_name or bool(colon) != row.takes_name:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {_KINDS[near[0]].form}?" if near else ""
        raise ValueError(f"There is no data set {name!r}.{hint} Valid are: {', '.join(names())}.")
    return row.load(rest, split, data_dir, image_size)


def names() -> Mapping[str, str]:
    """Every form of name that `load` takes -> one line on what it is."""
    return {kind.form: kind.line for kind in _KINDS.values()}


class _Kind(NamedTuple):
    """form, line: as `names` tells them. takes_name: whether a colon and a name follow. load: (what follows
    the colon, split, data_dir, image_size) -> Source."""

    form: str
    line: str
    takes_name: bool
    load: Callable[[str, str, str | Path | None, int | None], Source]


def _digits(_: str, split: str, data_dir: str | Path | None, image_size: int | None) -> Source:
    from . import digits

    del data_dir
    return digits.load(split, image_size=image_size)


def _tfds(name: str, split: str, data_dir: str | Path | None, image_size: int | None) -> Source:
    from . import tfds_sets

    return tfds_sets.load(name, split, data_dir=data_dir, image_size=image_size)


def _folder(path: str, split: str, data_dir: str | Path | None, image_size: int | None) -> Source:
    from . import folder

    del data_dir
    return folder.load(Path(path), split, image_size=image_size)


_KINDS = {
    "digits": _Kind("digits", "1,797 real handwritten digits, 8×8, embedded in scikit-learn", False, _digits),
    "tfds": _Kind(
        "tfds:<name>[/config][:version]",
        "a prepared set of TensorFlow Datasets, such as tfds:fashion_mnist; etude prepare gets it",
        True,
        _tfds,
    ),
    "folder": _Kind(
        "folder:<path>",
        "image files in <path>/<class>/, or in <path>/train/<class>/ with validation/ and test/ beside it",
        True,
        _folder,
    ),
}
