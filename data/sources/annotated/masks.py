"""Semantic segmentation: a folder of images beside a folder of masks, whose pixels are numbers or colors of classes.

- Folders: <path>/images/ and <path>/masks/ (other names: `_IMAGES`, `_MASKS`), perhaps with train/, val/ and test/ in
  each of them, or such a pair in <path>/train/, with <path>/val/ and <path>/test/ beside it. What is missing is carved
  (`splits.assign_names`).
- Pairs: the same name without suffix, in the same folder below; the mask's may end in one of `_ENDINGS`.
- Classes: <path>/classes.csv has a line for each, `name,value` or `name,r,g,b`, in the order of the labels. One that is
  called void, ignore or unlabeled is −1, and so is 255 if it has no line. Without the file, values must be 0, 1, …
  without gaps, and 255 is −1; masks of 0 and 255 alone are background and foreground. 65535 of 16 bits is always −1.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ....errors import InputError, MissingFile, listed
from ..files import NO_PROGRESS, Checked, Found, Report, check_files, find, shown
from ..pixels import color_value, read_mask
from ..source import Source
from ..splits import SPLIT_OF, assign_names
from .letterbox import Frame
from .pictures import read_fitted, shape_of

_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_MASKS = ("masks", "mask", "labels", "label", "segmentationclass")
_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation")
_VOID = ("void", "ignore", "unlabeled")
_MOST_VALUES = 1024  # a mask with more of them is a photograph, or was saved with loss


def is_one(path: Path) -> bool:
    """Whether a folder is one of images and masks."""
    return path.is_dir() and bool(_pair(path) or any(_pair(each) for each in _split_folders(path).values()))


def load(
    path: Path, split: str, *, image_size: int | None = None, memory: Path | None = None, report: Report = NO_PROGRESS
) -> Source:
    """One split of images with masks: "image" uint8 [height, width, channel], "semantic" int32 [height, width].

    Args:
      path: the folder.
      split: "train", "validation" or "test".
      image_size: fits every image into a square of this size, its mask by the nearest pixel, with −1 around it; needed
        if images differ in size.
      memory: a folder that remembers which files were checked.
      report: called with (files checked, all files), for images and then for masks.
    Returns: the split.
    Raises:
      MissingFile: there is no such folder, or an image or mask lacks its partner.
      InputError: a file can't be read, an image and its mask differ in size, or a mask has a value or color of no
        class.
    """
    pairs = _pairs(path)
    every = [pair for each in pairs.values() for pair in each]
    images = check_files(path, [pair.image for pair in every], memory=memory, report=report)
    masks = check_files(
        path / "masks", [pair.mask for pair in every], memory=memory, report=report, check_one=_check_mask
    )
    for pair in every:
        image, mask = images[pair.image.name], masks[pair.mask.name]
        if (image.height, image.width) != (mask.height, mask.width):
            raise InputError(
                f"{shown(pair.image.path)} is {image.width}×{image.height} pixels, and its mask "
                f"{shown(pair.mask.path)} {mask.width}×{mask.height}."
            )
    shape = shape_of(((pair.image.path, images[pair.image.name]) for pair in every), image_size, shown(path))
    classes, labels = _classes(path, {pair.mask.path: masks[pair.mask.name].values for pair in every})
    which, indices = assign_names(
        {part: [(pair.image.name, "") for pair in each] for part, each in pairs.items()}, split
    )
    chosen = [pairs[which][i] for i in indices]
    files = tuple((pair.image.path, pair.mask.path) for pair in chosen)
    records = _Files(files, shape, image_size, labels, ("image", "semantic"))
    contents = {each.name: checked.content for pair in every for each, checked in _contents(pair, images, masks)}
    contents["classes"] = ", ".join(f"{value}: {label}" for value, label in sorted(labels.items()))
    return Source(f"folder:{shown(path)}", split, records, records.element_spec, classes, contents)


class _Pair(NamedTuple):
    """An image and its mask."""

    image: Found
    mask: Found


@dataclass(frozen=True)
class _Files:
    """Records of (image file, mask file)."""

    files: tuple[tuple[Path, Path], ...]
    shape: tuple[int, int, int]
    image_size: int | None
    labels_of: Mapping[int, int]
    """Value of a mask's pixel -> label."""
    names: tuple[str, ...]

    @property
    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        every = {
            "image": jax.ShapeDtypeStruct(self.shape, np.uint8),
            "semantic": jax.ShapeDtypeStruct(self.shape[:2], np.int32),
        }
        return {name: every[name] for name in self.names}

    def select(self, names: Sequence[str]) -> _Files:
        """The same files with some arrays alone."""
        return replace(self, names=tuple(names))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        image, mask = self.files[index]
        values = read_mask(mask, name=shown(mask))
        box = None if self.image_size is None else Frame.of(values.shape[0], values.shape[1], self.image_size)
        example = {}
        if "image" in self.names:
            example["image"] = read_fitted(image, self.shape, box)
        if "semantic" in self.names:
            known = np.array(sorted(self.labels_of), np.int32)
            place = np.searchsorted(known, values).clip(max=len(known) - 1)
            if (known[place] != values).any():
                raise InputError(f"{shown(mask)} has changed since it was checked.")
            semantic = np.array([self.labels_of[value] for value in known.tolist()], np.int32)[place]
            example["semantic"] = semantic if box is None else box.mask(semantic, -1)
        return example


def _pair(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks in a folder, if it has one of each."""
    inside = [each for each in sorted(path.iterdir()) if each.is_dir()]
    images, masks = ([each for each in inside if each.name.lower() in names] for names in (_IMAGES, _MASKS))
    return (images[0], masks[0]) if len(images) == len(masks) == 1 else None


def _split_folders(path: Path) -> dict[str, Path]:
    return {SPLIT_OF[each.name.lower()]: each for each in sorted(path.iterdir()) if each.name.lower() in SPLIT_OF}


def _pairs(path: Path) -> dict[str, list[_Pair]]:
    """Stored split -> its images with their masks, sorted by name."""
    if not path.is_dir():
        raise MissingFile(f"There is no folder {shown(path)}.")
    pair = _pair(path)
    if pair is not None:
        splits = [_split_folders(each) for each in pair]
        if splits[0].keys() != splits[1].keys():
            raise InputError(f"{shown(pair[0])} and {shown(pair[1])} differ in their folders of splits.")
        folders = {each: (splits[0][each], splits[1][each]) for each in splits[0]} or {"train": pair}
    else:
        folders = {split: each for split, folder in _split_folders(path).items() if (each := _pair(folder))}
    if not folders:
        raise InputError(f"{shown(path)} has no folder of images beside one of masks, such as images/ and masks/.")
    return {split: _matched(path, *each) for split, each in folders.items()}


def _matched(root: Path, images: Path, masks: Path) -> list[_Pair]:
    of_images, of_masks = _by_name(images), _by_name(masks)
    pairs, used = [], set()
    for name, image in of_images.items():
        mask = next((name + end for end in _ENDINGS if name + end in of_masks and name + end not in used), None)
        if mask is None:
            raise MissingFile(f"{shown(image)} has no mask {name}.png in {shown(masks)}.")
        used.add(mask)
        found = (Found(each.relative_to(root).as_posix(), "", each) for each in (image, of_masks[mask]))
        pairs.append(_Pair(*found))
    alone = [of_masks[name] for name in of_masks if name not in used]
    if alone:
        raise MissingFile(
            f"{len(alone)} masks have no image in {shown(images)}: {listed(shown(each) for each in alone)}."
        )
    return pairs


def _by_name(folder: Path) -> dict[str, Path]:
    """Path below the folder, without suffix -> file."""
    loose, below, _ = find(folder)
    files = {}
    for file in [*loose, *(file for each in below.values() for file in each)]:
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise InputError(f"{shown(file)} and {shown(files[name])} have the same name without suffix.")
        files[name] = file
    return dict(sorted(files.items()))


def _check_mask(path: Path, size: int, decode: bool) -> Checked:
    """Always decodes: which values occur stands in no header."""
    del decode
    content = path.read_bytes()
    mask = read_mask(BytesIO(content), name=shown(path))
    values = np.unique(mask)
    if len(values) > _MOST_VALUES:
        raise InputError(
            f"{shown(path)} has {len(values):,} different values or colors: it is no mask, or was saved with loss."
        )
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Checked(mask.shape[0], mask.shape[1], 1, f"{size} bytes, {digest}", tuple(values.tolist()))


def _contents(pair: _Pair, images: Mapping[str, Checked], masks: Mapping[str, Checked]):
    return (pair.image, images[pair.image.name]), (pair.mask, masks[pair.mask.name])


def _classes(path: Path, values: Mapping[Path, Sequence[int]]) -> tuple[tuple[str, ...], dict[int, int]]:
    """(names of the labels, value of a pixel -> label)."""
    every = set().union(*values.values()) - {-1}
    table = path / "classes.csv"
    if table.exists():
        names, labels = _read_table(table)
    elif every == {0, 255}:
        names, labels = ("background", "foreground"), {0: 0, 255: 1}
    else:
        number = len(every - {255})
        names, labels = tuple(map(str, range(number))), {value: value for value in range(number)}
    labels = {-1: -1, 255: -1} | labels
    for file, of_file in values.items():
        unknown = [value for value in of_file if value not in labels]
        if unknown:
            value = max(unknown)
            color = f" (the color {value >> 16 & 255}, {value >> 8 & 255}, {value & 255})" if value >= 2**24 else ""
            if table.exists():
                raise InputError(f"{shown(file)} has the value {value}{color}, which {shown(table)} does not have.")
            raise InputError(
                f"{shown(file)} has the value {value}{color}, but values are not 0, 1, … without gaps: "
                f"{shown(table)} must say which value or color is which class, by lines name,value or name,r,g,b."
            )
    if len(names) < 2:
        raise InputError(f"The masks in {shown(path)} have {len(names)} classes; segmentation needs two.")
    return names, labels


def _read_table(table: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    names, labels = [], {}
    for number, row in enumerate(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[0].lower() == "name"):
            continue
        numbers = [int(cell) for cell in cells[1:] if cell.isdecimal()]
        if len(cells) not in (2, 4) or len(numbers) != len(cells) - 1 or (len(cells) == 4 and max(numbers) > 255):
            raise InputError(
                f"Line {number} of {shown(table)} must be name,value or name,r,g,b; it is {','.join(row)!r}."
            )
        values = {color_value(*numbers)} if len(numbers) == 3 else set(numbers)
        if len(set(numbers)) == 1:  # a mask that is gray throughout has gray values, another one the color
            values |= {numbers[0]}
        if values & labels.keys() or cells[0] in names:
            raise InputError(f"Line {number} of {shown(table)} repeats a name, value or color: {','.join(row)!r}.")
        void = cells[0].lower() in _VOID
        labels |= dict.fromkeys(values, -1 if void else len(names))
        if not void:
            names.append(cells[0])
    return tuple(names), labels
