"""A folder of images as a data set: one folder per class, named like the class; classes are in alphabetical order.

Images are either in <path>/<class>/, from which the splits are carved, or in <path>/train/<class>/, perhaps with
validation and test folders beside it. Images in folders below a class folder belong to the class.
`splits.assign_names` says how a missing split is made. `files` lists the images and checks them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingFile, listed
from .files import NO_PROGRESS, Checked, Found, Report, check_files, find, shown
from .images import image_spec
from .pixels import another_size, decode
from .source import Source
from .splits import SPLIT_OF, assign_names


def load(
    path: Path,
    split: str,
    *,
    image_size: int | None = None,
    memory: Path | None = None,
    report: Report = NO_PROGRESS,
) -> Source:
    """One split of a folder of images.

    All images get one shape: gray if every image of the folder is, else RGB; their own size, unless an image size is
    given. Every file is checked first: its header, and its pixels too where that is cheap (`files.check_files`). Hidden
    files, files whose suffix is not one of `files.SUFFIXES`, and images outside class folders are no examples; the
    source's `notes` count them.

    Args:
      path: the folder.
      split: "train", "validation" or "test".
      image_size: resizes and crops all images to this many pixels per side.
      memory: a folder that remembers which files were checked; by default all are checked.
      report: called with (files checked, all files) while they are checked.
    Returns: the split.
    Raises:
      MissingFile: there is no such folder.
      InputError: it has no class folders, an empty one, one whose name is no text, splits that differ in their classes,
        or too few images; or a file can't be read, or is of another size, which the message names.
    """
    if not path.is_dir():
        raise MissingFile(f"There is no folder {shown(path)}.")
    stored, ignored = _stored(path)
    found = [each for files in stored.values() for each in files]
    checked = check_files(path, found, memory=memory, report=report)
    shape = _shape(found, checked, image_size)
    classes = tuple(sorted({each.label for each in stored["train"]}))
    labels = {label: np.asarray(number, np.int32) for number, label in enumerate(classes)}
    names = {part: [(each.name, each.label) for each in files] for part, files in stored.items()}
    which, indices = assign_names(names, split)
    chosen = [stored[which][i] for i in indices]
    records = _Files(tuple((each.path, labels[each.label]) for each in chosen), shape, image_size)
    contents = {each.name: checked[each.name].content for each in found}
    return Source(f"folder:{shown(path)}", split, records, image_spec(*shape), classes, contents, ignored)


@dataclass(frozen=True)
class _Files:
    """Records read from (file, label) pairs."""

    files: tuple[tuple[Path, np.ndarray], ...]
    shape: tuple[int, int, int]
    image_size: int | None

    @property
    def labels(self) -> np.ndarray:
        """[len]; no file is read."""
        return np.array([label for _, label in self.files], np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        file, label = self.files[index]
        return {"image": decode(file, self.shape, name=shown(file), image_size=self.image_size), "label": label}


def _stored(path: Path) -> tuple[dict[str, list[Found]], tuple[str, ...]]:
    """(stored split -> its images, in the order of their names; sentences about what is left out)."""
    loose, by_folder, other = find(path)
    if not by_folder and not loose:
        raise InputError(f"{shown(path)} has no images in class folders: they must be in {shown(path)}/<class>/.")
    splits = _split_folders(path, by_folder)
    stored, unused = {}, len(loose)
    if splits:
        for split, folder in splits.items():
            loose, inside, _ = find(path / folder)
            unused += len(loose)
            stored[split] = _classes(path, path / folder, inside)
    else:
        stored["train"] = _classes(path, path, by_folder)
    _require_same_classes(path, splits, stored)
    notes = []
    if unused:
        notes.append(f"Left out, since outside of class folders: {_counted(unused, 'image')}.")
    if other:
        kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in other.most_common(3))
        notes.append(f"Left out, since no images by their suffix: {_counted(other.total(), 'file')} ({kinds}).")
    return stored, tuple(notes)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def _split_folders(path: Path, by_folder: Mapping[str, list[Path]]) -> dict[str, str]:
    """Split -> its folder, or {} where all folders are classes: a class may be called train.

    A class holds images, perhaps some in folders of its own; a split holds class folders.
    """
    named = {folder: SPLIT_OF[folder.lower()] for folder in by_folder if folder.lower() in SPLIT_OF}
    others = sorted(folder for folder, files in by_folder.items() if files and folder not in named)
    if not named:
        return {}
    if others:
        holding = [folder for folder in named if any(file.parent == path / folder for file in by_folder[folder])]
        if holding == [folder for folder in named if by_folder[folder]]:
            return {}
        raise InputError(
            f"{shown(path)} can be read in two ways: {', '.join(sorted(named))} hold class folders as splits do, and "
            f"{listed(others)} beside them hold images as classes do. Move "
            "the ones or the others elsewhere."
        )
    twice = [split for split, count in Counter(named.values()).items() if count > 1]
    if twice:
        folders = [folder for folder, split in named.items() if split == twice[0]]
        raise InputError(f"{shown(path)} has {len(folders)} folders of the {twice[0]} split: {', '.join(folders)}.")
    splits = {split: folder for folder, split in named.items()}
    if "train" not in splits:
        raise InputError(f"{shown(path)} has a folder {', '.join(named)} but no folder train beside it.")
    return splits


def _classes(root: Path, folder: Path, inside: Mapping[str, list[Path]]) -> list[Found]:
    """The images of class folders, in the order of their names."""
    if not inside:
        raise InputError(f"{shown(folder)} has no class folders: images must be in {shown(folder)}/<class>/.")
    for label, files in inside.items():
        try:
            label.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"The name of the class folder {shown(folder / label)} is no text in UTF-8; rename it."
            ) from None
        if not files:
            raise InputError(f"{shown(folder / label)} has no images that can be read here; remove the folder.")
    return [
        Found(file.relative_to(root).as_posix(), label, file)
        for label, files in sorted(inside.items())
        for file in files
    ]


def _require_same_classes(path: Path, splits: Mapping[str, str], stored: Mapping[str, list[Found]]) -> None:
    wanted = {each.label for each in stored["train"]}
    for name, files in stored.items():
        differing = sorted(wanted ^ {each.label for each in files})
        if differing:
            raise InputError(
                f"{shown(path / splits[name])} and {shown(path / splits['train'])} differ in their class folders: "
                f"{listed(differing)}."
            )


def _shape(found: list[Found], checked: Mapping[str, Checked], image_size: int | None) -> tuple[int, int, int]:
    """The shape that all images get. Raises InputError for the first image of another size than most have."""
    channels = max(each.channels for each in checked.values())
    if image_size is not None:
        return image_size, image_size, channels
    sizes = Counter((each.height, each.width) for each in checked.values())
    usual = sizes.most_common(1)[0][0]
    for each in found:
        size = checked[each.name].height, checked[each.name].width
        if size != usual:
            raise another_size(shown(each.path), size, usual)
    return *usual, channels
