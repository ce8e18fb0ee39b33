"""Several numbers in one word of the command line: `0.1,0.01`, `2**-15:2**-1` or `1e-4:1:9`."""

from __future__ import annotations

import re

import numpy as np

from ..errors import InputError

NUMBER = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)(?:\*\*([+-]?\d+))?")


def parse_grid(text: str, name: str) -> list[float]:
    """The numbers that a text names.

    Args:
      text: a list "0.1,0.01", doublings "2**-15:2**-1" with both ends, or n geometric steps "1e-4:1:9".
      name: what the numbers are of, for the message.
    Raises: InputError for an empty list, for text that is no number, or for a range that is reversed or not positive.

    >>> parse_grid("2**-3:0.5", "learning_rate")
    [0.125, 0.25, 0.5]
    """
    if ":" not in text:
        found = [_number(part, text, name) for part in text.split(",") if part.strip()]
        if not found:
            raise InputError(f"The grid of {name} is empty; give numbers such as 0.1,0.01 or 2**-15:2**-1.")
        return found
    low, high, *count = text.split(":")
    first, last = _number(low, text, name), _number(high, text, name)
    if not 0 < first <= last:
        raise InputError(f"The grid of {name} is {text}; wanted: 0 < lowest <= highest.")
    if not count:
        return [first * 2.0**i for i in range(int(np.floor(np.log2(last / first) + 1e-9)) + 1)]
    if len(count) > 1 or not count[0].strip().isdigit() or int(count[0]) < 2:
        raise InputError(f"The grid of {name} is {text}; wanted lowest:highest:n with a whole n of at least 2.")
    return [float(x) for x in np.geomspace(first, last, int(count[0]))]


def _number(part: str, text: str, name: str) -> float:
    match = NUMBER.fullmatch(part.strip())
    if match is None:
        raise InputError(f"The grid of {name} is {text!r}; {part.strip()!r} is no number. Write 0.1, 1e-3 or 2**-5.")
    try:
        return float(match[1]) ** int(match[2] or 1)
    except (ValueError, OverflowError, ZeroDivisionError):  # "1.2.3", "10**999", "0**-1"
        raise InputError(f"The grid of {name} is {text!r}; {part.strip()!r} is no number that a float holds.") from None
