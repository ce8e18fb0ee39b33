"""Prepared sets of TensorFlow Datasets that hold texts, read without TensorFlow and without the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError, listed
from ..sources import tfds_library
from .stored import Rows, one_split
from .texts import SPLITS, Texts

_TEXT = ("text", "sentence")  # names of the feature that is the text, such as in imdb_reviews and glue/sst2
_CHUNK = 4096  # examples read at once


def load(name: str, split: str, *, data_dir: str | Path | None = None) -> Texts:
    """One split of a prepared set of pairs, labeled texts or texts; it is read into memory.

    The set must be a `Translation` of languages, or have a text called "text" or "sentence", perhaps with a class
    called "label". Examples with an empty text are left out, as are those without a label (−1, as tfds marks them).

    Args:
      name: <name>[/config][:version][#source-target]. The languages are those of the set, such as "#cs-en" for Czech
        to English. By default the source is English where that is one of two languages, else the first in alphabetical
        order. The config says nothing about it: that of wmt16_translate is called cs-en whichever way it is used.
      split: "train", "validation" or "test"; `stored.one_split` says how missing ones are made.
      data_dir: folder of prepared sets; by default the one that tfds uses.
    Raises:
      MissingFile: the set is not prepared; the message has the command that prepares it.
      InputError: tfds has no such set, it is not one of texts, or it has other languages.
    """
    asked, (name, hash_sign, direction) = f"tfds:{name}", name.partition("#")
    builder = tfds_library.prepared_set(name, data_dir)
    columns, classes = _columns(asked, builder.info.features, direction if hash_sign else None)
    stored, notes = {}, []
    for part in [part for part in SPLITS if part in builder.info.splits]:
        rows, left = _rows(builder.as_data_source(part), columns, classes)
        if left:
            notes.append(f"Left out of {part}, examples without a text or label: {left:,}.")
        if rows.keys:
            stored[part] = rows
    contents = tfds_library.contents_of(builder)
    return one_split(asked, split, stored, classes=classes, contents=contents, notes=notes)


def _columns(asked: str, features: Any, direction: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """(column -> the feature that it is, names of the classes)."""
    tfds = tfds_library.library()
    texts = [key for key, each in features.items() if isinstance(each, tfds.features.Text) and each.shape == ()]
    if isinstance(features, tfds.features.Translation):
        languages = sorted(texts, key=lambda language: (language != "en", language))
        pairs = {f"{a}-{b}": {"source": a, "target": b} for a in languages for b in languages if a != b}
        if direction is None and len(languages) == 2:
            return next(iter(pairs.values())), ()
        if direction not in pairs:
            name = asked.partition("#")[0]
            raise InputError(f"The languages of {name} are chosen as {name}#{listed(pairs, like=direction or '')}.")
        return pairs[direction], ()
    if direction is not None:
        raise InputError(f"Languages are chosen after # of translations alone, and {asked} is not a translation.")
    text = next((key for key in _TEXT if key in texts), None)
    if text is None:
        have = listed([f"{key} ({type(feature).__name__})" for key, feature in features.items()])
        raise InputError(
            f"{asked} is no set of texts, which have text or sentence (Text) or are Translation: it has {have}."
        )
    is_labeled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    return {"text": text}, tuple(features["label"].names) if is_labeled else ()


def _rows(examples: Any, columns: Mapping[str, str], classes: tuple[str, ...]) -> tuple[Rows, int]:
    """The examples of a stored split, and how many are left out."""
    texts, labels = [], []
    for start in range(0, len(examples), _CHUNK):
        for example in examples.__getitems__(list(range(start, min(start + _CHUNK, len(examples))))):
            row = tuple(example[key].decode("utf-8", "replace") for key in columns.values())
            label = int(example["label"]) if classes else 0
            if label >= 0 and all(map(str.strip, row)):
                texts.append(row)
                labels.append(label)
    by_column = zip(*texts, strict=True) if texts else [()] * len(columns)
    rows = Rows(dict(zip(columns, by_column, strict=True)), [classes[label] for label in labels] if classes else ())
    return rows, len(examples) - len(texts)
