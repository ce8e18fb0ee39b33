"""Writes published sets of texts to disk as tables, one file a split, which `files` reads.

Each is made from the files that its authors publish, without the network. It appears whole or not at all: it is
written elsewhere and renamed.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, MissingFile, unknown_name, writing
from ..sources import prepare
from .texts import SPLITS, split_of

NOTES = "notes.txt"
"""File beside the tables, with a sentence on each line that a user should read."""
MULTI30K = {"train": ("train", 29_000), "validation": ("val", 1_014), "test": ("test_2016_flickr", 1_000)}
"""Split -> its files, without the language, and how many sentences each has."""
MULTI30K_MORE = {"test_2018_flickr": ("test_2018_flickr", 1_071)}
"""A second test set, which is taken if it is there."""
SNIPPETS = ("movieReviewSnippets_GroundTruth.txt", 10_605)
"""The film reviews of Hutto and Gilbert, and how many there are."""
NEUTRAL = 0.5
"""Snippets whose mean rating, of −4 to 4, is nearer to 0 are left out: raters of such ones differ by 1.2 (standard
deviation), so that a mean of 19 ratings is uncertain by 0.28 and its sign may be chance."""
_MOST_BYTES = 2**26  # of an unpacked file: some 20 times the largest


class Published(NamedTuple):
    """A row of the table of sets."""

    line: str
    """One line that describes the set."""
    source: str
    """Which files it is made from, and where they are published."""
    read: Callable[[Path], tuple[dict[str, list[tuple[str, str]]], list[str]]]
    """Folder of the files -> (name of each table -> its rows, header first; notes)."""


def prepared(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The folder of a set that is already prepared; None if it is not.

    Raises: InputError for an unknown set, or a folder of that name that is not whole.
    """
    if name not in SETS:
        raise unknown_name("set of texts", name, SETS)
    folder = _data_dir(data_dir) / name
    if not os.path.lexists(folder):
        return None
    missing = [f"{split}.tsv" for split in SPLITS if not (folder / f"{split}.tsv").is_file()]
    if missing:
        raise InputError(f"{folder} has no {missing[0]}: delete it and prepare {name} again.")
    return folder


def require(name: str, data_dir: str | Path | None = None) -> Path:
    """The folder of a prepared set. Raises: MissingFile, with the command that prepares it, if it is not there."""
    folder = prepared(name, data_dir)
    if folder is None:
        option = "" if data_dir is None else f" --data-dir {data_dir}"
        raise MissingFile(
            f"{name} is not prepared in {_data_dir(data_dir)}. To prepare it: etude prepare {name} --archives DIR"
            f"{option}, where DIR has {SETS[name].source}."
        )
    return folder


def notes(folder: Path) -> list[str]:
    """Sentences about a prepared set that a user should read."""
    file = folder / NOTES
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def from_archives(name: str, archives: Path, data_dir: str | Path | None = None) -> Path:
    """Writes a set as tables, from the files that its authors publish.

    Args:
      name: one of `SETS`.
      archives: folder with the files, compressed by gzip or not.
      data_dir: folder of prepared sets; by default that of tfds (TFDS_DATA_DIR, or ~/tensorflow_datasets).
    Returns: the folder of the set, which did not exist before.
    Raises:
      MissingFile: a file is missing.
      InputError: a file is damaged or holds something else, the set is already there, or it can't be written.
    """
    there = prepared(name, data_dir)
    if there is not None:
        raise InputError(f"{name} is already prepared in {there}.")
    tables, sentences = SETS[name].read(archives)
    with prepare.sibling(_data_dir(data_dir), name) as temporary, writing(temporary):
        written = temporary / name
        written.mkdir()
        for table, rows in tables.items():
            _write(written / f"{table}.tsv", ["\t".join(row) for row in rows])
        _write(written / NOTES, sentences)
        return written.rename(_data_dir(data_dir) / name)


def _write(file: Path, lines: Sequence[str]) -> None:
    file.write_bytes("".join(f"{line}\n" for line in lines).encode())


def _data_dir(data_dir: str | Path | None) -> Path:
    """The folder of prepared sets. That of tfds by its documented rule: importing it takes a second."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _multi30k(archives: Path) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    more = {
        table: row
        for table, row in MULTI30K_MORE.items()
        if any((archives / f"{row[0]}.{language}{gz}").exists() for language in ("en", "cs") for gz in ("", ".gz"))
    }
    tables = {}
    for table, (stem, count) in (MULTI30K | more).items():
        english, czech = (_sentences(archives, f"{stem}.{language}", count, 1) for language in ("en", "cs"))
        # Some sentences of 2018 end with a space.
        pairs = [(en.strip(), cs.strip()) for (en,), (cs,) in zip(english, czech, strict=True)]
        tables[table] = [("source", "target"), *pairs]
    return tables, []


def _sentiment(archives: Path) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Snippets whose mean rating has a clear sign, split by a hash of their text.

    Each snippet is a text of its own: neighbors share names of films or people no more often than others do, so there
    is no review to keep together. Which film one is about is not published. Two texts occur twice; their hash puts both
    into one split.
    """
    tables = {split: [("text", "label")] for split in SPLITS}
    file, count = SNIPPETS
    for number, (_, rating, text) in enumerate(_sentences(archives, file, count, 3), start=1):
        try:
            mean = float(rating)
        except ValueError:
            mean = float("nan")
        if not -4 <= mean <= 4:
            raise InputError(f"{archives / file}, line {number} has no rating of -4 to 4, but {rating!r}.")
        if abs(mean) >= NEUTRAL:
            tables[split_of(text)].append((text, "positive" if mean > 0 else "negative"))
    left = count - sum(len(rows) - 1 for rows in tables.values())
    return tables, [
        f"Left out, since their mean rating is between -{NEUTRAL} and {NEUTRAL}: {left} of {count:,} snippets."
    ]


def _sentences(archives: Path, name: str, count: int, columns: int) -> list[list[str]]:
    """The columns of each line of a published file, compressed or not."""
    path = next((path for path in (archives / name, archives / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise MissingFile(f"{archives} has no file {name} or {name}.gz.")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)  # never more: a small archive may unpack to terabytes
        text = content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(content) > _MOST_BYTES or len(lines) != count:
        found = "more" if len(content) > _MOST_BYTES else f"{len(lines) if content else 0:,}"
        raise InputError(f"{path} has {found} lines, not the {count:,} that are published.")
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns or not all(map(str.strip, row)) or any("\0" in cell or "\r" in cell for cell in row):
            raise InputError(f"{path}, line {number} is damaged: it should hold {columns} texts, separated by tabs.")
    return rows


SETS = {
    "multi30k_en_cs": Published(
        "31,014 English captions of photographs with Czech translations (Multi30k)",
        "{train,val,test_2016_flickr}.{en,cs}.gz of data/task1/raw in https://github.com/multi30k/dataset",
        _multi30k,
    ),
    "sentiment": Published(
        "10,072 sentences of film reviews, positive or negative (Hutto and Gilbert 2014)",
        f"{SNIPPETS[0]}, which is in additional_resources/hutto_ICWSM_2014.tar.gz of the source archive of "
        "vaderSentiment on PyPI (pip download --no-deps --no-binary vaderSentiment vaderSentiment)",
        _sentiment,
    ),
}
