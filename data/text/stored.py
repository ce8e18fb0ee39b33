"""From the examples that a set of texts comes with to its three splits: one policy for files and for prepared sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ...errors import InputError
from ..sources import assign_names
from .texts import SPLITS, Texts


@dataclass(frozen=True)
class Rows:
    """The examples of one stored split."""

    columns: Mapping[str, Sequence[str]]
    """"source" and "target", or "text", of each example."""
    labels: Sequence[str] = ()
    """Name of the label of each example, if there are classes."""

    @property
    def keys(self) -> Sequence[str]:
        """The text of each example that decides its split: of a pair, the source."""
        return next(iter(self.columns.values()))


def one_split(
    name: str,
    split: str,
    stored: Mapping[str, Rows],
    *,
    classes: tuple[str, ...] = (),
    contents: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Texts:
    """One split of a set, in the order of the set.

    Splits that the set comes with are used as they are. A missing one is carved from train by a hash of each text, as
    `sources.splits.assign_names` says (about a tenth each; with validation but without test, the stored validation
    split is the test split). Equal texts are carved into the same split; what stored splits have in common is said in
    a note.

    Args:
      name: what the user calls the set.
      split: "train", "validation" or "test".
      stored: the splits that the set comes with, by these names.
      classes: names of the labels, in the order of their numbers.
      contents: what the set consists of.
      notes: what its reader has to say.
    Raises: InputError if there is no train split, or it is too small to carve.
    """
    which, indices = _assign(name, split, stored)
    rows, numbers = stored[which], {label: number for number, label in enumerate(classes)}
    return Texts(
        name,
        split,
        {column: tuple(texts[i] for i in indices) for column, texts in rows.columns.items()},
        tuple(numbers[rows.labels[i]] for i in indices) if classes else (),
        classes,
        contents,
        (*notes, *_shared(stored)),
    )


def _assign(name: str, split: str, stored: Mapping[str, Rows]) -> tuple[str, list[int]]:
    """The stored split that a split is, or is carved from, and the indices of its examples."""
    distinct = {
        part: list(dict(zip(rows.keys, rows.labels or [""] * len(rows.keys), strict=True)).items())
        for part, rows in stored.items()
    }
    try:
        which, chosen = assign_names(distinct, split)
    except InputError as error:
        raise InputError(f"{name} can't be split. {error}") from error
    texts = {distinct[which][i][0] for i in chosen}
    return which, [i for i, key in enumerate(stored[which].keys) if key in texts]


def _shared(stored: Mapping[str, Rows]) -> list[str]:
    """A sentence for each two stored splits that have texts in common."""
    texts = {part: set(stored[part].keys) for part in SPLITS if part in stored}
    shared = {(a, b): len(texts[a] & texts[b]) for a, b in combinations(texts, 2)}
    return [f"Texts that are in {a} and in {b}: {count:,}." for (a, b), count in shared.items() if count]
