"""Data sets by name: the one place that interprets what a user writes after `--data`.

A name is a kind and, for kinds with many sets, a colon and the set. Each kind is a row of `_KINDS`; the module behind
it is imported when a set of its kind is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .files import NO_PROGRESS, Report
from .source import Source
from .splits import SPLITS

MOST_PIXELS_PER_SIDE = 8192  # 200 MB an image in color


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    memory: Path | None = None,
    report: Report = NO_PROGRESS,
) -> Source:
    """One split of a data set.

    The splits of a set are the same in every run, whatever its seed, and no example is in two of them. Splits that a
    set does not come with are carved from those it has; `splits.assign` says how.

    Args:
      name: One of the forms that `names()` lists.
      split: "train", "validation" or "test".
      data_dir: Folder of prepared TensorFlow data sets; by default the one that tfds uses (TFDS_DATA_DIR, or
        ~/tensorflow_datasets). Other kinds do not use it.
      image_size: Resizes the shorter side of every image to this many pixels and crops the center to a square. Needed
        for sets whose images differ in size. At most MOST_PIXELS_PER_SIDE. Images with boxes or masks are fitted into
        the square as a whole, with a border.
      memory: Folder that remembers which files of users were checked. Sets that are no files of users need no check.
      report: Called with (files checked, all files) while the files of a user are checked.
    Returns: The split. Its images are uint8 [height, width, channel]. "label" is int32 []; where objects or pixels are
      annotated, there are instead "boxes" float32 [N, 4] as (x0, y0, x1, y1) in pixels, "labels" int32 [N] (−1 where
      there is no object), "crowd" bool [N], "masks" uint8 [N, height, width] and "semantic" int32 [height, width] (−1
      where it is not known), as far as the set has them. N is the most objects that an image of any split has.
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
    if image_size is not None and not 1 <= image_size <= MOST_PIXELS_PER_SIDE:
        raise InputError(f"image_size must be 1 to {MOST_PIXELS_PER_SIDE} pixels, got {image_size}.")
    kind, colon, rest = name.partition(":")
    row = _KINDS.get(kind)
    if row is None or (bool(colon), bool(rest)) not in row.takes_name.value:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {_KINDS[near[0]].form}?" if near else ""
        raise InputError(f"There is no data set {name!r}.{hint} Valid are: {', '.join(names())}.")
    return row.load(_Asked(rest, split, data_dir, image_size, memory, report))


def names() -> Mapping[str, str]:
    """Every form of name that `load` takes -> one line that describes it.

    >>> list(names())[:3]
    ['digits', 'scenes[:<size>[/<kinds>]]', 'tfds:<name>[/config][:version][#part]']
    """
    return {kind.form: kind.line for kind in _KINDS.values()}


class _Asked(NamedTuple):
    """What a user asked for: arguments of `load`, and of the name what follows the colon."""

    name: str
    split: str
    data_dir: str | Path | None
    image_size: int | None
    memory: Path | None
    report: Report


class _Takes(Enum):
    """Whether a colon and the name of a set follow a kind: the valid pairs (is there a colon, is there a name)."""

    NO = ((False, False),)
    A_NAME = ((True, True),)
    PERHAPS = ((False, False), (True, True))


class _Kind(NamedTuple):
    """A row of the table of kinds."""

    form: str
    """How users write a name of this kind."""
    line: str
    """One line that describes the kind."""
    takes_name: _Takes
    """Whether a colon and the name of a set follow."""
    load: Callable[[_Asked], Source]
    """Loads the split."""


def _digits(asked: _Asked) -> Source:
    from . import digits

    return digits.load(asked.split, image_size=asked.image_size)


def _scenes(asked: _Asked) -> Source:
    from . import scenes

    return scenes.load(asked.name, asked.split, image_size=asked.image_size)


def _tfds(asked: _Asked) -> Source:
    from . import tfds_sets

    return tfds_sets.load(asked.name, asked.split, data_dir=asked.data_dir, image_size=asked.image_size)


def _folder(asked: _Asked) -> Source:
    from . import folder
    from .annotated import masks

    kind = masks if masks.is_one(_path(asked)) else folder
    return kind.load(_path(asked), asked.split, image_size=asked.image_size, memory=asked.memory, report=asked.report)


def _coco(asked: _Asked) -> Source:
    from .annotated import coco

    return coco.load(_path(asked), asked.split, image_size=asked.image_size, memory=asked.memory, report=asked.report)


def _voc(asked: _Asked) -> Source:
    from .annotated import voc

    return voc.load(_path(asked), asked.split, image_size=asked.image_size, memory=asked.memory, report=asked.report)


def _path(asked: _Asked) -> Path:
    return Path(asked.name).expanduser()  # no shell expands the ~ of folder:~/photos


_KINDS = {
    "digits": _Kind("digits", "1,797 real handwritten digits, 8×8, embedded in scikit-learn", _Takes.NO, _digits),
    "scenes": _Kind(
        "scenes[:<size>[/<kinds>]]",
        "drawn objects over sky, grass, water and sand with masks and boxes, such as scenes:64/animals",
        _Takes.PERHAPS,
        _scenes,
    ),
    "tfds": _Kind(
        "tfds:<name>[/config][:version][#part]",
        "a prepared set of TensorFlow Datasets, such as tfds:fashion_mnist; etude prepare gets it. Parts are objects "
        "(of coco and voc) and segmentation_mask (of oxford_iiit_pet)",
        _Takes.A_NAME,
        _tfds,
    ),
    "folder": _Kind(
        "folder:<path>",
        "images in <path>/<class>/, or <path>/train/<class>/ with val/ and test/; or <path>/images/ and <path>/masks/",
        _Takes.A_NAME,
        _folder,
    ),
    "coco": _Kind(
        "coco:<annotations.json>",
        "boxes and masks in COCO's format, with the images beside the file or in images/",
        _Takes.A_NAME,
        _coco,
    ),
    "voc": _Kind(
        "voc:<path>",
        "boxes in Pascal VOC's format: <path>/Annotations/, JPEGImages/ and ImageSets/Main/",
        _Takes.A_NAME,
        _voc,
    ),
}
