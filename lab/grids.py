"""Several numbers in one word of the command line: `0.1,0.01`, `2**-15:2**-1` or `1e-4:1:9`."""

from __future__ import annotations

import math
import re

import numpy as np

from ..errors import InputError

NUMBER = re.compile(r"([+-]?)((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,6})?)(?:\*\*([+-]?\d{1,6}))?")
MOST = 10_000
"""The most numbers of a grid. Each is a member of a population."""
LONGEST = 100_000  # characters; so that a text is refused before it is read
GRAMMAR = """A GRID is one word that names several numbers, in one of three ways:

    0.1,0.01,0.001   a list
    2**-9:2**-1      doublings from 2**-9 to 2**-1, with both ends
    1e-4:1:9         9 numbers from 1e-4 to 1, in equal ratios

A number is written 0.1, 1e-3 or 2**-5. Put a GRID with ** in quotes, as in '2**-9:2**-1': some shells would look for
files of that name. Every combination of the values is trained with every seed.
"""  # --help shows it beside the options that take a GRID, and the README has it


def parse_grid(text: str, name: str) -> list[float]:
    """The numbers that a text names.

    Args:
      text: see `GRAMMAR`. As in Python, -2**2 is -4.
      name: what the numbers are of, for the message.
    Raises: InputError for an empty list, a number twice, more than `MOST` numbers, text that is no number or one that a
      float doesn't hold, or for a range that is reversed, not positive, or whose doublings miss its end.

    >>> parse_grid("2**-3:0.5", "learning_rate")
    [0.125, 0.25, 0.5]
    """
    if len(text) > LONGEST:
        raise InputError(f"The grid of {name} has {len(text)} characters; a grid has at most {LONGEST}.")
    if ":" not in text:
        return _list(text, name)
    low, high, *count = text.split(":")
    first, last = _number(low, text, name), _number(high, text, name)
    if not 0 < first <= last:
        raise InputError(f"The grid of {name} is {text}; wanted: 0 < lowest <= highest.")
    if not count:
        return _doublings(first, last, text, name)
    if len(count) > 1 or re.fullmatch(r"\s*\d+\s*", count[0]) is None or len(count[0]) > 20 or int(count[0]) < 2:
        raise InputError(f"The grid of {name} is {text}; wanted lowest:highest:n with a whole n of at least 2.")
    if int(count[0]) > MOST:
        raise InputError(f"The grid of {name} is {text}, {int(count[0])} numbers; a grid has at most {MOST}.")
    if first == last:
        raise InputError(f"The grid of {name} is {text}; its steps are all {first:g}. Give one number, or two ends.")
    return [float(x) for x in np.geomspace(first, last, int(count[0]))]


def _list(text: str, name: str) -> list[float]:
    parts = text.split(",")
    if not any(part.strip() for part in parts):
        raise InputError(f"The grid of {name} is empty; give numbers such as 0.1,0.01 or 2**-15:2**-1.")
    if len(parts) > MOST:
        raise InputError(f"The grid of {name} has {len(parts)} numbers; a grid has at most {MOST}.")
    found: dict[float, str] = {}
    for part in parts:
        number = _number(part, text, name)
        if number in found:
            raise InputError(f"The grid of {name} is {text!r}; {part.strip()} is in it twice.")
        found[number] = part
    return list(found)


def _doublings(first: float, last: float, text: str, name: str) -> list[float]:
    doublings = math.log2(last) - math.log2(first)
    if abs(doublings - round(doublings)) > 1e-6:
        raise InputError(
            f"The grid of {name} is {text}; doublings from {first:g} do not end at {last:g}, but at "
            f"{first * 2.0 ** math.floor(doublings):g} or {first * 2.0 ** math.ceil(doublings):g}. Give one of them, "
            f"or a number of steps, {text}:{max(2, 1 + round(doublings))}."
        )
    return [math.ldexp(first, i) for i in range(round(doublings) + 1)]


def _number(part: str, text: str, name: str) -> float:
    shown, whole = _shortened(part.strip()), _shortened(text)
    match = NUMBER.fullmatch(part.strip())
    if match is None:
        raise InputError(f"The grid of {name} is {whole!r}; {shown!r} is no number. Write 0.1, 1e-3 or 2**-5.")
    sign, digits, power = match.groups()
    try:
        number = float(digits) ** int(power or 1)  # of floats: too large a power is an OverflowError at once
    except ZeroDivisionError:
        raise InputError(f"The grid of {name} is {whole!r}; {shown!r} divides by 0.") from None
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise InputError(f"The grid of {name} is {whole!r}; {shown!r} is too large.")
    if number == 0 and float(digits) != 0:
        raise InputError(f"The grid of {name} is {whole!r}; {shown!r} is too small: it is 0 in floating point.")
    return -number if sign == "-" else number


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
