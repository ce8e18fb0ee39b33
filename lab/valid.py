"""What the value of an option may be, written beside the option: `momentum: Annotated[float, PROPER_FRACTION] = 0.9`.

One function, `check`, reads these notes for every option of every experiment, before anything is loaded or compiled.
What depends on more than one option, or on the data, is checked by the code that puts the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InputError, unknown_name
from .grids import parse_grid


@dataclass(frozen=True, eq=False)  # types hash their notes
class Valid:
    """A range of numbers. described: completes "it must be …"; holds: whether a number is in it."""

    described: str
    holds: Callable[[Any], bool]

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if a number, or one of several, is out of range."""
        for number in value if isinstance(value, tuple) else (value,):
            if not self.holds(number):
                raise InputError(f"{name} is {number}; it must be {self.described}.")


@dataclass(frozen=True, eq=False)  # types hash their notes
class Between:
    """Numbers with two ends, each of which has a message of its own."""

    low: Valid
    high: Valid

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if a number, or one of several, is out of range."""
        self.low.check(name, value)
        self.high.check(name, value)


@dataclass(frozen=True, eq=False)  # types hash their notes
class Grid:
    """A text that names several numbers, each in a range: see `grids.parse_grid`."""

    of: Valid | Between
    metavar: ClassVar[str] = "GRID"

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if the text names no numbers, or one out of range."""
        for number in parse_grid(value, name):
            self.of.check(name, number)


@dataclass(frozen=True, eq=False)  # types hash their notes
class Choice:
    """A name from a table. kind: what it names, "optimizer"; table: the names, or a function that returns them."""

    kind: str
    table: Iterable[str] | Callable[[], Iterable[str]]

    @property
    def names(self) -> tuple[str, ...]:
        """All valid names."""
        return tuple(self.table() if callable(self.table) else self.table)

    @property
    def metavar(self) -> str:
        """What --help shows in place of a value."""
        return "{" + ",".join(self.names) + "}"

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if a name, or one of several, is not in the table."""
        del name
        for each in value if isinstance(value, tuple) else (value,):
            if each not in self.names:
                raise unknown_name(self.kind, each, self.names)


@dataclass(frozen=True, eq=False)  # types hash their notes
class Distinct:
    """Several values, none of which is given twice."""

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if a value is given twice."""
        twice = [each for i, each in enumerate(value) if each in value[:i]]
        if twice:
            raise InputError(f"{name} has {twice[0]} twice; give each once.")


Note = Valid | Between | Grid | Choice | Distinct
DISTINCT = Distinct()

TINY, HUGE = 1.2e-38, 3.4e38  # the ends of float32, in which everything is computed
POSITIVE = Between(
    Valid("positive and finite", lambda x: 0 < x < math.inf),
    Valid("a number that float32 holds, of a size between 1.2e-38 and 3.4e38", lambda x: TINY <= x <= HUGE),
)
NON_NEGATIVE = Between(
    Valid("at least 0 and finite", lambda x: 0 <= x < math.inf),
    Valid("at most 3.4e38, the largest number that float32 holds", lambda x: x <= HUGE),
)
PROPER_FRACTION = Valid("in [0, 1)", lambda x: 0 <= x < 1)
FRACTION = Valid("in [0, 1]", lambda x: 0 <= x <= 1)
SEED = Valid("at least 0 and less than 2^32", lambda x: 0 <= x < 2**32)  # jax keeps the last 32 bits of larger ones


MOST = 10**6
"""The largest count or size, unless an option says more or less: a slip of the finger, and not a run, lies above."""


def at_least(lowest: int, most: int = MOST) -> Between:
    """Whole numbers from `lowest` to `most`. A message names the end that was missed."""
    return Between(Valid(f"at least {lowest}", lambda x: x >= lowest), Valid(f"at most {most}", lambda x: x <= most))


COUNT = at_least(1)
HYPERPARAMETERS = {"learning_rate": POSITIVE, "weight_decay": NON_NEGATIVE, "momentum": PROPER_FRACTION}


def check_hyper(name: str, numbers: Iterable[float]) -> None:
    """Checks numbers of a hyperparameter that no option names as it stands, such as the members of a population.

    Raises: InputError for one that the hyperparameter can't have. A traced value can't be checked later.
    """
    valid = HYPERPARAMETERS.get(name, Valid("finite", math.isfinite))
    for number in numbers:
        valid.check(name, number)


def check_value(name: str, value: Any, notes: Iterable[Any]) -> None:
    """Checks the value of one option.

    Args:
      name: the option's flat name, for the message.
      value: None is no value, and always valid where the option's type has it.
      notes: metadata of the option's type, among them any `Note`s.
    Raises: InputError if the value is not valid. NaN and infinity never are: JSON can't hold them; nor is a number
      that float32 can't hold.
    """
    if value is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise InputError(f"{name} is {number}; it must be finite.")
    for note in notes:
        if isinstance(note, Note):
            note.check(name, value)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and abs(number) > HUGE:
            raise InputError(f"{name} is {number}; it must be at most 3.4e38 in size, which float32 holds.")
