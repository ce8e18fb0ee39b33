"""Texts in files of a user: tables of two columns, TSV, and plain lines.

A file is UTF-8, or UTF-16 with a byte order mark, and is read as it is: there is no quoting, and no cell is changed. A
set is one file, whose splits are carved, or a folder with a file for each split.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, MissingFile, listed
from ..sources import SPLIT_OF, shown
from .stored import Rows, one_split
from .texts import Texts

KINDS = {"pairs": ("source", "target"), "labels": ("text", "label"), "text": ("text",)}
"""What a table holds -> its columns."""
HEADER = {
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("target", "tgt"), "target"),
    **dict.fromkeys(("text", "sentence", "review"), "text"),
    **dict.fromkeys(("label", "class", "sentiment"), "label"),
}
"""Name of a column in a header line, in any case -> column."""
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Byte order mark at the begin of a file -> its encoding."""
_SPLIT_OF = SPLIT_OF | {"dev": "validation"}


def load_table(name: str, path: Path, split: str, *, wanted: str | None = None, test: str = "test") -> Texts:
    """One split of pairs, labeled texts or texts in tab-separated columns.

    A header line names the columns (`HEADER`), in any order; other columns are left out. Without one, the columns are
    those of what is wanted, by default source and target. Blank lines and lines with an empty cell are left out. The
    notes say what is left out.

    Args:
      name: what the user calls the set.
      path: a file, or a folder with train.tsv and perhaps validation.tsv (val.tsv, dev.tsv) and test.tsv.
      split: "train", "validation" or "test".
      wanted: "pairs", "labels" or "text": what the columns are.
      test: name of the file that is the test split, in lower case without suffix, where a folder has several.
    Raises:
      MissingFile: there is no such file or folder.
      InputError: a file is no text, is empty, or has a line with another number of columns; split files differ in
        their columns; a held-out label does not occur in training; or all labels are the same. The message names file
        and line.
    """
    files, notes = _files(path, ".tsv", test)
    contents, tables = {}, {}
    for part, file in files.items():
        read = _read(file)
        contents[_name(file)] = read.digest
        tables[part] = _table(file, read, wanted)
        notes += tables[part].notes
    first = tables["train"]
    for part in [part for part in tables if part != "train"]:
        if (first.kind, tables[part].kind) == ("labels", "text"):
            notes.append(f"Not read, since it has no labels: {shown(files[part])}.")
            del tables[part]
        elif (first.kind, first.has_header) != (tables[part].kind, tables[part].has_header):
            raise InputError(
                f"{shown(files[part])} and {shown(files['train'])} differ in their columns: give all files a header "
                "line with the same names, such as source and target, or text and label."
            )
    classes = _classes(tables, files) if first.kind == "labels" else ()
    rows = {part: table.rows for part, table in tables.items()}
    return one_split(name, split, rows, classes=classes, contents=contents, notes=notes)


def load_lines(name: str, path: Path, split: str, *, paragraphs: bool = False) -> Texts:
    """One split of plain text: each line that is not blank is an example, or each paragraph.

    Args:
      name: what the user calls the set.
      path: a file, or a folder with train.txt and perhaps validation.txt (val.txt, dev.txt) and test.txt.
      split: "train", "validation" or "test".
      paragraphs: lines without a blank one between them are one example.
    Raises:
      MissingFile: there is no such file or folder.
      InputError: a file is no text, or has no line that is not blank.
    """
    files, notes = _files(path, ".txt", "test")
    read = {part: _read(file) for part, file in files.items()}
    texts = {part: _paragraphs(each) if paragraphs else [line for _, line in each.lines] for part, each in read.items()}
    rows = {part: Rows({"text": each}) for part, each in texts.items()}
    contents = {_name(file): read[part].digest for part, file in files.items()}
    return one_split(name, split, rows, contents=contents, notes=notes)


def _paragraphs(read: _Read) -> list[str]:
    """Lines that follow each other, with their ends between them."""
    found, last = [], -1
    for number, line in read.lines:
        if number == last + 1:
            found[-1].append(line)
        else:
            found.append([line])
        last = number
    return ["\n".join(lines) for lines in found]


def _files(path: Path, suffix: str, test: str) -> tuple[dict[str, Path], list[str]]:
    """(stored split -> its file, sentences about files that are not read)."""
    if os.path.isfile(path):  # unlike pathlib's, it never raises
        return {"train": path}, []
    if not os.path.isdir(path):
        if os.path.exists(path):
            raise InputError(f"{shown(path)} is no regular file.")
        raise MissingFile(f"There is no file or folder {shown(path)}.")
    try:
        found = sorted(each for each in path.iterdir() if each.suffix.lower() == suffix and each.is_file())
    except OSError as error:
        raise InputError(f"The folder {shown(path)} can't be listed: {error.strerror}.") from None
    split_of = {stem: part for stem, part in _SPLIT_OF.items() if part != "test" or test == "test"} | {test: "test"}
    files, left = {}, []
    for each in found:
        part = split_of.get(each.stem.lower())
        if part in files:
            two = f"{_name(files[part])}, {_name(each)}"
            raise InputError(f"{shown(path)} has two files of the {part} split: {two}.")
        if part:
            files[part] = each
        else:
            left.append(_name(each))
    if "train" not in files:
        have = listed(map(_name, found)) or f"no {suffix} file"
        raise MissingFile(f"{shown(path)} has no train{suffix}: it has {have}.")
    return files, [f"Not read, since not named like a split: {listed(left)}."] if left else []


def _name(file: Path) -> str:
    return shown(Path(file.name))


class _Read(NamedTuple):
    """The lines of a file that are not blank."""

    lines: list[tuple[int, str]]
    """(its number from 1, the line without its end)."""
    blank: int
    """Number of the blank ones."""
    digest: str
    """Size and digest of the file."""


def _read(file: Path) -> _Read:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(file)} can't be read: {error.strerror}.") from None
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    body, encoding = content[len(mark) :], _MARKS.get(mark, "utf-8")
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = body[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise InputError(
            f"{shown(file)}, line {line} is no text in UTF-8, nor in UTF-16 with a byte order mark: {error.reason}."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{shown(file)}, line {line} has a NUL character: the file is no text.")
    numbered = enumerate(text.removesuffix("\n").split("\n"), start=1)
    lines = [(number, line.removesuffix("\r")) for number, line in numbered]
    kept = [(number, line) for number, line in lines if line.strip()]
    if not kept:
        raise InputError(f"{shown(file)} has no examples: it is {'blank' if content else 'empty'}.")
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return _Read(kept, len(lines) - len(kept), f"{len(content)} bytes, {digest}")


@dataclass(frozen=True)
class _Table:
    """What a file holds."""

    kind: str
    """One of `KINDS`."""
    has_header: bool
    rows: Rows
    lines: Sequence[int]
    """Number of the line of each row."""
    notes: list[str]


def _table(file: Path, read: _Read, wanted: str | None) -> _Table:
    lines = read.lines
    header = _header(file, *lines[0], wanted)
    if header is None:
        kind = wanted or "pairs"
        width, places, unused = len(KINDS[kind]), range(len(KINDS[kind])), []
    else:
        kind, names = header
        width, places = len(names), [names.index(column) for column in KINDS[kind]]
        unused = [cell for i, cell in enumerate(lines[0][1].split("\t")) if i not in places]
        lines = lines[1:]
    kept, numbers = [], []
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width:
            wants = "as its header" if header else f"({', '.join(KINDS[kind])})"
            have = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
            raise InputError(f"{shown(file)}, line {number} has {have}, not {width} {wants}.")
        chosen = [cells[i] for i in places]
        if all(cell.strip() for cell in chosen):
            kept.append(chosen)
            numbers.append(number)
    if not kept:
        raise InputError(f"{shown(file)} has no examples: no line has a text in each of {', '.join(KINDS[kind])}.")
    columns = dict(zip(KINDS[kind], zip(*kept, strict=True), strict=True))
    labels = [label.strip() for label in columns.pop("label", ())]
    counts = {"blank lines": read.blank, "lines with an empty cell": len(lines) - len(kept)}
    notes = [f"Left out of {shown(file)}, {what}: {count:,}." for what, count in counts.items() if count]
    if unused:
        notes.append(f"Left out of {shown(file)}, columns: {listed(unused)}.")
    return _Table(kind, header is not None, Rows(columns, labels), numbers, notes)


def _header(file: Path, number: int, line: str, wanted: str | None) -> tuple[str, list[str | None]] | None:
    """What a table holds, and its columns where they are known, by its first line; None if that is no header."""
    names = [HEADER.get(cell.strip().casefold()) for cell in line.split("\t")]
    if not any(names):
        return None
    # Published sets often keep the labels of the test split, so that a file of one may have texts alone.
    kinds = tuple(KINDS) if wanted is None else ("labels", "text") if wanted == "labels" else (wanted,)
    kind = next((kind for kind in kinds if set(KINDS[kind]) <= set(names)), None)
    if kind is None or any(names.count(column) > 1 for column in KINDS[kind]):
        known = [cell.strip() for cell, name in zip(line.split("\t"), names, strict=True) if name]
        wants = " or ".join(" and ".join(KINDS[kind]) for kind in ([wanted] if wanted else KINDS))
        raise InputError(
            f"{shown(file)}, line {number} looks like a header, with {listed(known)}; a header has {wants}, each once. "
            "If it is an example, put a header line above it."
        )
    return kind, names


def _classes(tables: Mapping[str, _Table], files: Mapping[str, Path]) -> tuple[str, ...]:
    """The labels of the training split: numbers by their size, others in alphabetical order."""
    labels, train = tables["train"].rows.labels, shown(files["train"])
    names = set(labels)
    if len(names) < 2:
        raise InputError(f"All labels of {train} are {labels[0]!r}; there must be at least two classes.")
    if len(names) > max(2, len(labels) // 2):
        raise InputError(f"{train} has {len(names)} different labels of {len(labels)} texts: are they labels?")
    for part, table in tables.items():
        for label, line in zip(table.rows.labels, table.lines, strict=True):
            if label not in names:
                raise InputError(
                    f"{shown(files[part])}, line {line} has the label {label!r}, which does not occur in {train}; "
                    f"its labels are {listed(sorted(names), like=label)}."
                )
    are_numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if are_numbers else None))
