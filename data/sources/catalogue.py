"""Data sets by name: the one place that interprets what a user writes after `--data`.

A name is a kind and, for kinds with many sets, a colon and the set. Each kind is a row of `_KINDS`; the module behind
it is imported when a set of its kind is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .source import Source
from .splits import SPLITS


def load(name: str, split: str, *, data_dir: str | Path | None = None, image_size: int | None = None) -> Source:
    """One split of a data set.

    The splits of a set are the same in every run, whatever its seed, and no example is in two of them. Splits that a
    set does not come with are carved from those it has; `splits.assign` says how.

    Args:
      name: One of the forms that `names()` lists.
      split: "train", "validation" or "test".
      data_dir: Folder of prepared TensorFlow data sets; by default the one that tfds uses (TFDS_DATA_DIR, or
        ~/tensorflow_datasets). Other kinds do not use it.
      image_size: Resizes the shorter side of every image to this many pixels and crops the center to a square. Needed
        for sets whose images differ in size.
    Returns: The split; its images are uint8 [height, width, channel], its labels int32.
    Raises:
      ValueError: The name or split is unknown, the image size is missing or not positive, or the set is not one of
        labeled images.
      FileNotFoundError: The set is not there; for tfds, the message has the command that prepares it.

    >>> source = load("digits", "train")
    >>> len(source), source.element_spec["image"].shape, source.classes[:3]
    (1259, (8, 8, 1), ('0', '1', '2'))
    """
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}. Valid are: {', '.join(SPLITS)}.")
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {image_size}.")
    kind, colon, rest = name.partition(":")
    row = _KINDS.get(kind)
    if row is None or bool(rest) != row.takes_name or bool(colon) != row.takes_name:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {_KINDS[near[0]].form}?" if near else ""
        raise InputError(f"There is no data set {name!r}.{hint} Valid are: {', '.join(names())}.")
    return row.load(rest, split, data_dir, image_size)


def names() -> Mapping[str, str]:
    """Every form of name that `load` takes -> one line that describes it.

    >>> list(names())
    ['digits', 'tfds:<name>[/config][:version]', 'folder:<path>']
    """
    return {kind.form: kind.line for kind in _KINDS.values()}


class _Kind(NamedTuple):
    """A row of the table of kinds."""

    form: str
    """How users write a name of this kind."""
    line: str
    """One line that describes the kind."""
    takes_name: bool
    """Whether a colon and the name of a set follow."""
    load: Callable[[str, str, str | Path | None, int | None], Source]
    """(what follows the colon, split, data_dir, image_size) -> the split."""


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
