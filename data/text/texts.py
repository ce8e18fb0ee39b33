"""A split of a set of texts: pairs of sentences, or sentences with labels, before any tokenizer has seen them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Texts:
    """One split. Raises: InputError if columns differ in length.

    >>> len(Texts("mine", "train", {"source": ("one", "two"), "target": ("jedna", "dvě")}))
    2
    """

    name: str
    """The name that the user gave, such as "dates_en_cs"."""
    split: str
    """One of "train", "validation" and "test"."""
    columns: Mapping[str, Sequence[str]]
    """Texts of each example by what they are: "source" and "target" of pairs, "text" of others."""
    labels: Sequence[int] = ()
    """Label of each example, if there are classes."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, …."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What the set consists of: name of each part -> its size or version."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should read: what was left out."""

    def __post_init__(self):
        lengths = {len(each) for each in self.columns.values()} | ({len(self.labels)} if self.classes else set())
        if len(lengths) > 1:
            raise InputError(f"Texts of {self.name} differ in number: {sorted(lengths)}.")

    @property
    def kind(self) -> str:
        """What the examples are: "pairs", "labels" (texts with them) or "text"."""
        return "pairs" if "source" in self.columns else "labels" if self.classes else "text"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def split_of(text: str, held_out: int = 10) -> str:
    """The split that a text belongs to, for ever: by a hash, one of `held_out` parts each for validation and test."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % held_out
    return {0: "test", 1: "validation"}.get(number, "train")


def check_split(split: str) -> None:
    """Raises InputError for a split that there is not."""
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}. Valid are: {', '.join(SPLITS)}.")
