"""COCO annotations: one JSON file for each split, with image files somewhere beside it.

- Splits: where the file's name, or that of its folder, has "train" in it, the files named with val, valid or validation
  and with test instead are the other splits. What is missing is carved (`splits.assign_names`); so is a file without
  "train" in its name.
- Images: `file_name` is looked for in the folder of the JSON, its images/, the folder above, its images/, and, for
  instances_NAME.json, in NAME/ of each of these. The first that has the first image must have all.
- Labels: categories in the order of their ids, which may have gaps. Those with "isthing": 0 are stuff: they are in the
  semantic map alone, which examples have if there are such categories.
- Boxes are cut at the borders of the image; annotations of which nothing is left are left out. Without "bbox", a box is
  that of the mask. Examples have masks if all their objects do. "iscrowd" is `crowd`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ....errors import InputError, MissingFile, listed
from ..files import NO_PROGRESS, Checked, Found, Report, check_files, shown
from ..pixels import require_file
from ..source import Source
from ..splits import assign_names
from .pictures import Objects, Picture, Pictures, clip, left_out, shape_of
from .rle import Rle, to_rle

_OTHERS = {"validation": ("val", "valid", "validation"), "test": ("test",)}


def load(
    path: Path, split: str, *, image_size: int | None = None, memory: Path | None = None, report: Report = NO_PROGRESS
) -> Source:
    """One split of COCO annotations.

    Args:
      path: the JSON file, of the training split if there are several.
      split: "train", "validation" or "test".
      image_size: fits every image into a square of this size, with boxes and masks; needed if images differ in size.
      memory: a folder that remembers which image files were checked.
      report: called with (files checked, all files).
    Returns: the split. Boxes, labels, crowd and masks are padded to the most objects that an image of any split has.
    Raises:
      MissingFile: the JSON file or image files are not there.
      InputError: a fault of the file, with the id of the image or annotation that has it.
    """
    files = {part: _read(file, path.parent) for part, file in _splits(path).items()}
    categories = _same_categories(files)
    found = [each for file in files.values() for each in file.found]
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if twice:
        raise InputError(f"Image files occur more than once in {shown(path)} or its other splits: {listed(twice)}.")
    checked = check_files(path, found, memory=memory, report=report)
    shape = shape_of(((each.path, checked[each.name]) for each in found), image_size, shown(path))
    labels = {each["id"]: label for label, each in enumerate(categories)}
    is_thing = tuple(bool(each.get("isthing", 1)) for each in categories)
    parsed = {part: _pictures(file, checked, labels, is_thing) for part, file in files.items()}
    pictures = {part: each for part, (each, _, _) in parsed.items()}
    empty = [id_ for _, ids, _ in parsed.values() for id_ in ids]
    unmasked = [id_ for _, _, ids in parsed.values() for id_ in ids]
    notes = left_out("they have no area inside of their image", empty)
    if unmasked and any(rle for each in pictures.values() for picture in each for rle in picture.objects.rles):
        notes += (
            f"Examples have no masks, since {len(unmasked)} annotations have none ({listed(map(str, unmasked))}).",
        )
    names = ["image", "boxes", "labels", "crowd"]
    names += [] if unmasked else ["masks"]
    names += [] if all(is_thing) else ["semantic"]
    most = max([1, *(len(picture.objects.labels) for each in pictures.values() for picture in each)])
    which, indices = assign_names(
        {part: [(each.name, "") for each in file.found] for part, file in files.items()}, split
    )
    records = Pictures(tuple(pictures[which][i] for i in indices), shape, most, image_size, tuple(names))
    contents = {each.name: checked[each.name].content for each in found}
    contents |= {os.path.relpath(file.path, path.parent): file.digest for file in files.values()}
    classes = tuple(str(each["name"]) for each in categories)
    return Source(f"coco:{shown(path)}", split, records, records.element_spec, classes, contents, notes, is_thing)


class _File(NamedTuple):
    """A JSON file, its parts checked for what each must have."""

    path: Path
    digest: str
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]
    found: list[Found]
    """The files of the images, in their order."""


def _splits(path: Path) -> dict[str, Path]:
    """Split -> JSON file."""
    files = {"train": path}
    for place in (path.name, path.parent.name):
        if not re.search("train", place, re.IGNORECASE):
            continue
        for split, words in _OTHERS.items():
            for word in words:
                other = re.sub("train(ing)?", word, place, flags=re.IGNORECASE)
                file = path.with_name(other) if place == path.name else path.parent.with_name(other) / path.name
                if file.exists():
                    files.setdefault(split, file)
        break
    return files


def _read(path: Path, folder: Path) -> _File:
    """Reads a file; its images are named relative to a folder."""
    if not path.exists():
        raise MissingFile(f"There is no file {shown(path)}.")
    require_file(path, shown(path))
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except OSError as error:
        raise InputError(f"{shown(path)} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"{shown(path)} is no JSON: {error}.") from None
    parts = []
    for part, keys in (
        ("images", ("id", "file_name")),
        ("annotations", _OF_ANNOTATION),
        ("categories", ("id", "name")),
    ):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise InputError(f'{shown(path)} is no file of COCO annotations: it has no list "{part}".')
        for number, each in enumerate(entries):
            lacking = [key for key in keys if key not in each]
            if lacking:
                name = f"number {number} (id {each.get('id')})"
                raise InputError(f'Entry {name} of "{part}" in {shown(path)} lacks {", ".join(lacking)}.')
        twice = [id_ for id_, count in Counter(str(each["id"]) for each in entries).items() if count > 1]
        if twice:
            raise InputError(f'In "{part}" of {shown(path)}, ids occur more than once: {listed(twice)}.')
        parts.append(entries)
    images, annotations, categories = parts
    names = [name for name, count in Counter(each["name"] for each in categories).items() if count > 1]
    if names or not categories:
        raise InputError(f"{shown(path)} has {'no categories' if not categories else f'two categories {names[0]!r}'}.")
    digest = f"{len(text)} bytes, {hashlib.blake2b(text, digest_size=8).hexdigest()}"
    return _File(path, digest, images, annotations, categories, _found(path, images, folder))


_OF_ANNOTATION = ("id", "image_id", "category_id")


def _found(path: Path, images: Sequence[Mapping[str, Any]], folder: Path) -> list[Found]:
    """The image files. Raises MissingFile that names those that are not there."""
    if not images:
        return []
    roots = [path.parent, path.parent / "images", path.parent.parent, path.parent.parent / "images"]
    named = re.sub("^[a-z]+_", "", path.stem)
    roots += [root / named for root in roots]
    first = str(images[0]["file_name"])
    root = next((root for root in roots if (root / first).exists()), None)
    if root is None:
        places = ", ".join(shown(each) for each in roots[:4])
        raise MissingFile(f"The image {first} of {shown(path)} is in none of {places}, or {named}/ in them.")
    files = [root / str(each["file_name"]) for each in images]
    missing = [str(each["file_name"]) for each, file in zip(images, files, strict=True) if not file.exists()]
    if missing:
        raise MissingFile(f"{len(missing)} images of {shown(path)} are not in {shown(root)}: {listed(missing)}.")
    return [Found(Path(os.path.relpath(file, folder)).as_posix(), "", file) for file in files]


def _same_categories(files: Mapping[str, _File]) -> list[dict]:
    """The categories in the order of their ids."""
    tables = {part: {each["id"]: each["name"] for each in file.categories} for part, file in files.items()}
    for part, table in tables.items():
        if table != tables["train"]:
            raise InputError(
                f"{shown(files[part].path)} and {shown(files['train'].path)} differ in their categories (id and name)."
            )
    try:
        return sorted(files["train"].categories, key=lambda each: each["id"])
    except TypeError:
        raise InputError(f"{shown(files['train'].path)} has ids of categories of different types.") from None


def _pictures(
    file: _File, checked: Mapping[str, Checked], labels: Mapping[Any, int], is_thing: Sequence[bool]
) -> tuple[list[Picture], list[Any], list[Any]]:
    """(pictures; ids of annotations without area; ids of objects without mask)."""
    sizes: dict[Any, tuple[int, int]] = {}
    for image, found in zip(file.images, file.found, strict=True):
        seen = checked[found.name]
        stated = image.get("height", seen.height), image.get("width", seen.width)
        if stated != (seen.height, seen.width):
            raise InputError(
                f"Image {image['id']} of {shown(file.path)} is {stated[1]}×{stated[0]} pixels there, and its file "
                f"{shown(found.path)} {seen.width}×{seen.height}."
            )
        sizes[image["id"]] = seen.height, seen.width
    rows = {id_: [] for id_ in sizes}
    stuff = {id_: [] for id_ in sizes}
    empty, unmasked = [], []
    for each in file.annotations:
        where = f"Annotation {each['id']} of {shown(file.path)}"
        if each["image_id"] not in sizes:
            raise InputError(f'{where} is of the image {each["image_id"]}, which is not in "images".')
        if each["category_id"] not in labels:
            known = listed(map(str, labels))
            raise InputError(f"{where} has the category {each['category_id']}; there are {known}.")
        height, width = sizes[each["image_id"]]
        label = labels[each["category_id"]]
        segmentation = each.get("segmentation") or None
        rle = None if segmentation is None else to_rle(segmentation, height, width, where)
        if not is_thing[label]:
            if rle is None:
                raise InputError(f'{where} is of stuff and has no "segmentation".')
            stuff[each["image_id"]].append((label, rle))
            continue
        box = clip(_box(each.get("bbox"), rle, where), height, width)
        if box is None:
            empty.append(each["id"])
            continue
        if rle is None:
            unmasked.append(each["id"])
        rows[each["image_id"]].append((box, label, bool(each.get("iscrowd", 0)), rle))
    pictures = []
    for image, found in zip(file.images, file.found, strict=True):
        boxes, of_labels, crowd, rles = zip(*rows[image["id"]], strict=True) if rows[image["id"]] else ((),) * 4
        objects = Objects(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(of_labels, np.int32),
            np.array(crowd, bool),
            rles,
            tuple(stuff[image["id"]]),
        )
        height, width = sizes[image["id"]]
        pictures.append(Picture(found.path, height, width, objects))
    return pictures, empty, unmasked


def _box(bbox: Any, rle: Rle | None, where: str) -> list[float]:
    """(x0, y0, x1, y1) of COCO's [x, y, width, height], or of the mask where there is none."""
    if bbox is None:
        if rle is None:
            raise InputError(f'{where} has neither "bbox" nor "segmentation".')
        from pycocotools import mask as coco_mask

        bbox = coco_mask.toBbox(rle).tolist()
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(each, int | float) for each in bbox):
        raise InputError(f'{where}: "bbox" must be [x, y, width, height], got {bbox}.')
    x, y, width, height = map(float, bbox)
    if not all(math.isfinite(each) for each in (x, y, width, height)) or width < 0 or height < 0:
        raise InputError(f'{where}: "bbox" must be finite, its width and height at least 0, got {bbox}.')
    return [x, y, x + width, y + height]
