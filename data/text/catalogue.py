"""Sets of texts by name: the one place that interprets what a user writes after `--data` where texts are wanted.

A name is a kind and, for kinds with many sets, a colon and the set. Each kind is a row of `_KINDS`; the module behind
it is imported when a set of its kind is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, unknown_name
from . import files, prepare
from .texts import SPLITS, Texts, check_split


def load(name: str, split: str, *, wanted: str | None = None, data_dir: str | Path | None = None) -> Texts:
    """One split of a set of texts.

    The splits of a set are the same in every run, whatever its seed. Splits that a set does not come with are carved
    from those it has; `stored.one_split` says how.

    Args:
      name: one of the forms that `names()` lists.
      split: "train", "validation" or "test".
      wanted: what the examples must be: "pairs", of "source" and "target"; "labels", a "text" with its label; or
        "text", of a set with labels too, which are left out, or of pairs, whose sources and targets are texts then. By
        default, what the set has.
      data_dir: folder of prepared sets; by default the one that tfds uses (TFDS_DATA_DIR, or ~/tensorflow_datasets).
        Other kinds do not use it.
    Raises:
      MissingFile: the set is not there; if it can be prepared, the message has the command.
      InputError: the name or split is unknown, the set is damaged, or it is not what is wanted.

    >>> pairs = load("dates_en_cs", "test")
    >>> len(pairs), pairs.kind
    (1000, 'pairs')
    """
    check_split(split)
    if wanted is not None and wanted not in files.KINDS:
        raise unknown_name("kind of texts", wanted, files.KINDS)
    mark = next((mark for mark in ":#" if mark in name), "")
    kind, _, rest = name.partition(mark) if mark else (name, "", "")
    row = _KINDS.get(kind)
    if row is None or mark not in row.marks or bool(mark) != bool(rest):
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {_KINDS[near[0]].form}?" if near else ""
        raise InputError(f"There is no set of texts {name!r}.{hint} Valid are: {', '.join(names())}.")
    texts = row.load(_Asked(name, rest, split, wanted, data_dir))
    if wanted in (None, texts.kind):
        return texts
    if (wanted, texts.kind) == ("text", "labels"):
        return replace(texts, labels=(), classes=())
    if (wanted, texts.kind) == ("text", "pairs"):
        return replace(texts, columns={"text": (*texts.columns["source"], *texts.columns["target"])})
    raise InputError(f"{name} has {_SAID[texts.kind]}, but {_SAID[wanted]} are wanted.")


def names() -> Mapping[str, str]:
    """Every form of name that `load` takes -> one line that describes it.

    >>> list(names())[:3]
    ['dates_en_cs', 'multi30k_en_cs[#test_2018_flickr]', 'sentiment']
    """
    return {kind.form: kind.line for kind in _KINDS.values()}


_SAID = {"pairs": "pairs of source and target", "labels": "texts with labels", "text": "texts alone"}


class _Asked(NamedTuple):
    """What a user asked for: arguments of `load`, and of the name what follows its mark."""

    name: str
    rest: str
    split: str
    wanted: str | None
    data_dir: str | Path | None


class _Kind(NamedTuple):
    """A row of the table of kinds."""

    form: str
    """How users write a name of this kind."""
    line: str
    """One line that describes the kind."""
    marks: tuple[str, ...]
    """What may stand between the kind and the rest of a name; "" where nothing has to follow."""
    load: Callable[[_Asked], Texts]
    """Loads the split."""


def _dates(asked: _Asked) -> Texts:
    from . import dates

    return dates.load(asked.split)


def _published(asked: _Asked) -> Texts:
    """A prepared set; after #, the name of another test set of it."""
    set_name = asked.name.partition("#")[0]
    folder = prepare.require(set_name, asked.data_dir)
    more = {each.stem for each in folder.glob("*.tsv")} - set(SPLITS)
    if asked.rest and asked.rest not in more:
        raise unknown_name(f"other test set of {set_name} in {folder}", asked.rest, sorted(more))
    texts = files.load_table(asked.name, folder, asked.split, test=asked.rest or "test")
    return replace(texts, notes=(*prepare.notes(folder), *texts.notes))


def _tsv(asked: _Asked) -> Texts:
    return files.load_table(asked.name, _path(asked), asked.split, wanted=asked.wanted)


def _text(asked: _Asked) -> Texts:
    return files.load_lines(asked.name, _path(asked), asked.split)


def _paragraphs(asked: _Asked) -> Texts:
    return files.load_lines(asked.name, _path(asked), asked.split, paragraphs=True)


def _tfds(asked: _Asked) -> Texts:
    from . import tfds_texts

    return tfds_texts.load(asked.rest, asked.split, data_dir=asked.data_dir)


def _path(asked: _Asked) -> Path:
    return Path(asked.rest).expanduser()  # no shell expands the ~ of tsv:~/pairs.tsv


_KINDS = {
    "dates_en_cs": _Kind(
        "dates_en_cs",
        "22,000 English sentences of dates, numbers, units and names with exact Czech ones, made by Babel",
        ("",),
        _dates,
    ),
    "multi30k_en_cs": _Kind(
        "multi30k_en_cs[#test_2018_flickr]",
        f"{prepare.SETS['multi30k_en_cs'].line}; etude prepare gets it",
        ("", "#"),
        _published,
    ),
    "sentiment": _Kind("sentiment", f"{prepare.SETS['sentiment'].line}; etude prepare gets it", ("",), _published),
    "tsv": _Kind(
        "tsv:<path>",
        "source and target, or text and label, in tab-separated columns: a file, or a folder with train.tsv",
        (":",),
        _tsv,
    ),
    "text": _Kind("text:<path>", "a text on each line: a file, or a folder with train.txt", (":",), _text),
    "paragraphs": _Kind(
        "paragraphs:<path>",
        "texts with blank lines between them: a file, or a folder with train.txt",
        (":",),
        _paragraphs,
    ),
    "tfds": _Kind(
        "tfds:<name>[/config][:version][#source-target]",
        "a prepared set of TensorFlow Datasets, such as tfds:imdb_reviews or tfds:wmt16_translate/cs-en#cs-en; etude "
        "prepare gets it",
        (":",),
        _tfds,
    ),
}
