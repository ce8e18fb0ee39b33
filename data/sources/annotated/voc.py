"""Pascal VOC annotations: Annotations/*.xml, JPEGImages/, and the splits in ImageSets/Main/.

- Folder: the one that has Annotations/, or one whose only folder with it is meant, such as VOCdevkit/.
- Splits: train.txt (else trainval.txt), val.txt and test.txt; without them, all annotations are carved
  (`splits.assign_names`). Annotations that no split names are left out.
- Images: JPEGImages/STEM with any suffix, where the annotation is STEM.xml.
- Labels: the names that occur in any split, in alphabetical order, as the 20 of VOC are.
- Boxes: pixels are counted from 1 and the last one belongs to the box, so (xmin − 1, ymin − 1, xmax, ymax). They are
  cut at the borders of the image. A box whose xmax ≤ xmin or ymax ≤ ymin is a slip of the mouse and left out.
- `difficult` objects are `crowd`: neither found nor missed in an evaluation.
"""

from __future__ import annotations

import hashlib
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....errors import InputError, MissingFile, listed
from ..files import NO_PROGRESS, SUFFIXES, Checked, Found, Report, check_files, shown
from ..source import Source
from ..splits import assign_names
from .pictures import Objects, Picture, Pictures, clip, left_out, shape_of

_LISTS = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def load(
    path: Path, split: str, *, image_size: int | None = None, memory: Path | None = None, report: Report = NO_PROGRESS
) -> Source:
    """One split of Pascal VOC annotations.

    Args:
      path: the folder that holds Annotations/, JPEGImages/ and perhaps ImageSets/Main/.
      split: "train", "validation" or "test".
      image_size: fits every image into a square of this size, with its boxes; needed if images differ in size.
      memory: a folder that remembers which image files were checked.
      report: called with (files checked, all files).
    Returns: the split. Boxes, labels and crowd are padded to the most objects that an image of any split has.
    Raises:
      MissingFile: a folder, annotation or image is not there.
      InputError: a fault of a file, with its name and the number of the object, counted from 1.
    """
    root = _root(path)
    stems = _stems(root)
    images = _images(root / "JPEGImages")
    found = {stem: _image(root, images, stem) for each in stems.values() for stem in each}
    checked = check_files(root, list(found.values()), memory=memory, report=report)
    shape = shape_of(((each.path, checked[each.name]) for each in found.values()), image_size, shown(root))
    read = {stem: _read(root / "Annotations" / f"{stem}.xml", checked[each.name]) for stem, each in found.items()}
    classes = tuple(sorted({name for file in read.values() for name in file.names}))
    if not classes:
        raise InputError(f"The annotations in {shown(root)} have no objects.")
    pictures = {
        stem: _picture(file, found[stem].path, checked[found[stem].name], classes) for stem, file in read.items()
    }
    notes = left_out("they have no area inside of their image", [each for file in read.values() for each in file.empty])
    unnamed = {each.stem for each in (root / "Annotations").glob("*.xml")} - set(found)
    if unnamed:
        notes += (f"Left out, since no split names them: {len(unnamed)} annotated images ({listed(sorted(unnamed))}).",)
    most = max([1, *(len(each.objects.labels) for each in pictures.values())])
    which, indices = assign_names({part: [(stem, "") for stem in each] for part, each in stems.items()}, split)
    names = ("image", "boxes", "labels", "crowd")
    records = Pictures(tuple(pictures[stems[which][i]] for i in indices), shape, most, image_size, names)
    contents = {each.name: checked[each.name].content for each in found.values()}
    contents |= {f"Annotations/{stem}.xml": file.digest for stem, file in read.items()}
    things = (True,) * len(classes)
    return Source(f"voc:{shown(path)}", split, records, records.element_spec, classes, contents, notes, things)


class _File(NamedTuple):
    """What an annotation file says."""

    names: list[str]
    boxes: list[list[float]]
    difficult: list[bool]
    empty: list[str]
    """File and number of each object without area."""
    digest: str


def _root(path: Path) -> Path:
    """The folder that holds Annotations/."""
    if not path.is_dir():
        raise MissingFile(f"There is no folder {shown(path)}.")
    inside = [path] if (path / "Annotations").is_dir() else [each.parent for each in sorted(path.glob("*/Annotations"))]
    if len(inside) != 1:
        which = f"several folders with it: {listed(shown(each) for each in inside)}" if inside else "none in it"
        raise InputError(f"{shown(path)} is no folder of Pascal VOC: it has no Annotations/, and {which}.")
    return inside[0]


def _stems(root: Path) -> dict[str, list[str]]:
    """Stored split -> stems of its annotations."""
    lists = {}
    for split, files in _LISTS.items():
        file = next((each for name in files if (each := root / "ImageSets" / "Main" / f"{name}.txt").exists()), None)
        if file is not None:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            lists[split] = [line.split()[0] for line in lines if line.split()]
    if not lists:
        lists["train"] = sorted(each.stem for each in (root / "Annotations").glob("*.xml"))
    twice = [stem for stem, count in Counter(stem for each in lists.values() for stem in each).items() if count > 1]
    if twice:
        raise InputError(f"The lists in {shown(root / 'ImageSets/Main')} name images more than once: {listed(twice)}.")
    missing = [stem for each in lists.values() for stem in each if not (root / f"Annotations/{stem}.xml").exists()]
    if missing:
        raise MissingFile(f"{len(missing)} annotations are not in {shown(root / 'Annotations')}: {listed(missing)}.")
    return lists


def _images(folder: Path) -> dict[str, list[Path]]:
    """Stem -> image files."""
    if not folder.is_dir():
        raise MissingFile(f"There is no folder {shown(folder)}.")
    images = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            images.setdefault(file.stem, []).append(file)
    return images


def _image(root: Path, images: Mapping[str, list[Path]], stem: str) -> Found:
    files = images.get(stem, [])
    if not files:
        raise MissingFile(f"{shown(root / 'JPEGImages')} has no image {stem}, which Annotations/{stem}.xml is of.")
    if len(files) > 1:
        raise InputError(f"Annotations/{stem}.xml may be of several images: {listed(shown(each) for each in files)}.")
    return Found(f"JPEGImages/{files[0].name}", "", files[0])


def _read(path: Path, checked: Checked) -> _File:
    text = path.read_bytes()
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{shown(path)} is no XML: {error}.") from None
    stated = [tree.findtext(f"size/{side}") for side in ("width", "height")]
    size = [str(checked.width), str(checked.height)]
    if any(side and side.strip() not in ("0", now) for side, now in zip(stated, size, strict=True)):
        raise InputError(
            f"The image of {shown(path)} is {'×'.join(map(str, stated))} there, its file {'×'.join(size)}."
        )
    file = _File([], [], [], [], f"{len(text)} bytes, {hashlib.blake2b(text, digest_size=8).hexdigest()}")
    for number, each in enumerate(tree.findall("object"), 1):
        where = f"Object {number} of {shown(path)}"
        name = (each.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} has no name.")
        x0, y0, x1, y1 = _corners(each, where)
        file.names.append(name)
        box = clip([x0 - 1, y0 - 1, x1, y1], checked.height, checked.width) if x1 > x0 and y1 > y0 else None
        if box is None:
            file.names.pop()
            file.empty.append(f"{path.name} object {number}")
            continue
        file.boxes.append(box)
        file.difficult.append((each.findtext("difficult") or "0").strip() == "1")
    return file


def _corners(each: ElementTree.Element, where: str) -> list[float]:
    corners = []
    for corner in _CORNERS:
        text = each.findtext(f"bndbox/{corner}")
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{where}: its bndbox must have the numbers {', '.join(_CORNERS)}; {corner} is {text!r}.")
        corners.append(value)
    return corners


def _picture(file: _File, path: Path, checked: Checked, classes: tuple[str, ...]) -> Picture:
    labels = np.array([classes.index(name) for name in file.names], np.int32)
    boxes = np.array(file.boxes, np.float64).reshape(-1, 4)
    objects = Objects(boxes, labels, np.array(file.difficult, bool), (None,) * len(labels))
    return Picture(path, checked.height, checked.width, objects)
