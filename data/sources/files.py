"""Which image files a folder holds, and whether each can be read, before anything is trained on them.

A check reads the header of every file. Files that don't end as their format demands, and all files of a small folder,
are decoded as well. What was checked can be remembered in a folder, so that the next start only looks at files that
are new or changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .pixels import read_image, read_shape, require_file

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".png", ".webp"})
SUFFIXES |= {".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"}
JUNK = frozenset({"__macosx", "@eadir", "$recycle.bin", "lost+found"})  # what systems put beside the files of users
SMALL = 2**28  # bytes of a folder whose files are decoded when they are checked: some seconds
_CHUNK = 1024  # files checked before the next ones are queued
Report = Callable[[int, int], None]
"""(files checked, all files) -> None: shows progress."""


def NO_PROGRESS(done: int, total: int) -> None:
    """A `Report` that shows nothing."""


class Found(NamedTuple):
    """An image file."""

    name: str
    """Path relative to the folder of the data set, with / between its parts."""
    label: str
    """Name of its class."""
    path: Path
    """Where it is."""


class Checked(NamedTuple):
    """What a check found of a file that can be read."""

    height: int
    width: int
    channels: int
    content: str
    """Size in bytes, and a digest where the content was read: two files that differ in it are not the same."""
    values: tuple[int, ...] = ()
    """Of a mask, the values that occur, as `pixels.read_mask` has them; else empty."""


def find(folder: Path) -> tuple[list[Path], dict[str, list[Path]], Counter[str]]:
    """All images below a folder.

    Args:
      folder: is read with all folders below it, through links too.
    Returns: (images in the folder itself, name of each folder in it -> the images in and below it, number of other
      files by suffix). Sorted by name. Hidden files and folders, and those that systems make (`JUNK`), are left out.
    Raises: InputError for a folder that can't be listed, or an image that is no regular file.
    """
    loose, by_folder, other = [], {}, Counter()
    for entry in _entries(folder):
        if entry.is_dir():
            by_folder[entry.name] = list(_below(Path(entry.path), other, (os.path.realpath(folder),)))
        elif _is_image(entry, other):
            loose.append(Path(entry.path))
    return loose, by_folder, other


def check_files(
    root: Path,
    found: Sequence[Found],
    *,
    memory: Path | None = None,
    report: Report = NO_PROGRESS,
    check_one: Callable[[Path, int, bool], Checked] | None = None,
) -> dict[str, Checked]:
    """Checks that files are images that can be read, in threads.

    Args:
      root: the folder of the data set; its memory is kept under this name.
      found: the files.
      memory: folder that remembers what was checked, by size and time of change; None remembers nothing.
      report: shows progress.
      check_one: (file, its size in bytes, whether to decode it) -> what was found, or InputError; by default, the check
        that a file is an image.
    Returns: name -> what was found.
    Raises: InputError that names the files that can't be read, at most three of them, and the number of all.
    """
    stats = {each.name: _stat(each) for each in found}
    decode = sum(stat.st_size for stat in stats.values()) <= SMALL
    file = None if memory is None else _memory_file(memory, root)
    known = {} if file is None else _recall(file)
    marks = {name: [stat.st_size, stat.st_mtime_ns, decode] for name, stat in stats.items()}
    checked = {name: Checked(*known[name][1]) for name, mark in marks.items() if known.get(name, [0])[0] == mark}
    left, broken = [each for each in found if each.name not in checked], []

    def check(each: Found) -> Checked | InputError:
        try:
            return (check_one or _check)(each.path, stats[each.name].st_size, decode)
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(left), _CHUNK):
            chunk = left[start : start + _CHUNK]
            for each, outcome in zip(chunk, pool.map(check, chunk), strict=True):
                if isinstance(outcome, InputError):
                    broken.append(str(outcome))
                else:
                    checked[each.name] = outcome
                report(len(checked) + len(broken), len(found))
    if file is not None and left:
        _remember(file, {name: [marks[name], list(each)] for name, each in checked.items()})
    if broken:
        more = f" So it is with {len(broken) - 3} more files." if len(broken) > 3 else ""
        raise InputError(f"{' '.join(broken[:3])}{more} Repair or remove what can't be read.")
    return checked


def shown(path: Path) -> str:
    """A path as text that every terminal can print: bytes that are no UTF-8 are written as \\x…"""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without what is hidden or junk."""
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in JUNK]
    except OSError as error:
        raise InputError(f"The folder {shown(Path(folder))} can't be listed: {error.strerror}.") from None
    return sorted(kept, key=lambda entry: entry.name)


def _below(folder: Path, other: Counter[str], parents: tuple[str, ...]):
    """The images in and below a folder."""
    here = os.path.realpath(folder)
    if here in parents:
        raise InputError(f"The folder {shown(folder)} is a link to a folder that it is in.")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _below(Path(entry.path), other, (*parents, here))
        elif _is_image(entry, other):
            yield Path(entry.path)


def _is_image(entry: os.DirEntry[str], other: Counter[str]) -> bool:
    """Whether a file is an image by its suffix; if not, it is counted."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES:
        other[suffix] += 1
    return suffix in SUFFIXES


def _stat(each: Found) -> os.stat_result:
    require_file(each.path, shown(each.path))
    return each.path.stat()


def _check(path: Path, size: int, decode: bool) -> Checked:
    """Reads the header of a file, and if asked its pixels too."""
    name = shown(path)
    if not decode:
        shape = read_shape(path, name=name)
        if not _ends_well(path, size):
            read_image(path, name=name)
        return Checked(*shape, f"{size} bytes")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror}.") from None
    shape = read_shape(BytesIO(content), name=name)
    read_image(BytesIO(content), name=name)
    return Checked(*shape, f"{size} bytes, {hashlib.blake2b(content, digest_size=8).hexdigest()}")


# Format, by its first bytes -> the bytes that stand near its end. A file that was cut off lacks them.
_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}


def _ends_well(path: Path, size: int) -> bool:
    """Whether a file ends as its format demands, or its format demands nothing."""
    with path.open("rb") as file:
        begin = file.read(4)
        file.seek(max(0, size - 64))
        end = file.read()
    return all(mark in end for first, mark in _ENDS.items() if begin.startswith(first))


def _memory_file(memory: Path, root: Path) -> Path:
    return memory / f"{hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=8).hexdigest()}.json"


def _recall(file: Path) -> Mapping[str, list]:
    """What was remembered; nothing if there is no such file or it is damaged, and all files are checked again."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return (
            known if all(len(mark) == 3 and len(each) == len(Checked._fields) for mark, each in known.values()) else {}
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(file: Path, content: Mapping[str, list]) -> None:
    """Writes what was checked; a memory that can't be written is only not there."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
