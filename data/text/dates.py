"""dates_en_cs: English phrases of dates, times, numbers, units and names, with their Czech ones, by CLDR through Babel.

Every pair is exact and none is downloaded. A sentence is one to four phrases. To translate them, words must be looked
up, put in another order, bent by the number before them (1 kilometr, 3 kilometry, 5 kilometrů), digits copied, and
hours counted in another way. A phrase belongs to one split, by a hash of its English: dates, numbers and combinations
of names in the held-out sentences do not occur in training, but every name, unit and month does.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .texts import Texts, check_split, split_of

if TYPE_CHECKING:
    from babel import Locale

NAME = "dates_en_cs"
LENGTHS = {"train": 20_000, "validation": 1_000, "test": 1_000}
MOST_PHRASES = 4
MAY = 5
BETWEEN = "; "
_SEED = 0xDA7E5  # changing it changes every result ever reported
_UNITS = (
    *("length-kilometer", "length-meter", "length-centimeter", "length-mile", "mass-gram", "mass-kilogram"),
    *("mass-tonne", "volume-liter", "temperature-celsius", "duration-second", "duration-minute", "duration-hour"),
    *("duration-day", "duration-week", "duration-month", "duration-year", "area-hectare", "energy-calorie"),
    "power-watt",
)
_ONE = re.compile("-?1 ")  # of a unit, all that there is in the singular: else its word could be held out


def load(split: str) -> Texts:
    """One split of 20,000, 1,000 and 1,000 sentences.

    Args:
      split: "train", "validation" or "test".
    Returns: pairs of "source" (English) and "target" (Czech).
    Raises: InputError for another split.

    >>> pairs = load("test").columns
    >>> pairs["source"][0]
    '6 seconds; 9/9/12 7:11:07 PM; Wednesday, August 29, 1990 7:10:52 AM'
    >>> pairs["target"][0]
    '6 sekund; 09.09.12 19:11:07; středa 29. srpna 1990 7:10:52'
    """
    import babel

    check_split(split)
    pairs = _pairs(split)
    columns = {"source": tuple(en for en, _ in pairs), "target": tuple(cs for _, cs in pairs)}
    return Texts(NAME, split, columns, contents={"Babel": babel.__version__})


@cache
def _pairs(split: str) -> tuple[tuple[str, str], ...]:
    rng = np.random.default_rng([_SEED, list(LENGTHS).index(split)])
    return tuple(_sentence(rng, split) for _ in range(LENGTHS[split]))


def _sentence(rng: np.random.Generator, split: str) -> tuple[str, str]:
    phrases = [_phrase(rng, split) for _ in range(rng.integers(1, MOST_PHRASES + 1))]
    english, czech = (BETWEEN.join(each) for each in zip(*phrases, strict=True))
    return english, czech


def _phrase(rng: np.random.Generator, split: str) -> tuple[str, str]:
    """A phrase of a split in both languages, of equally likely kinds."""
    while True:
        say = _KINDS[rng.integers(len(_KINDS))](rng)
        english = _plain(say(_locale("en")))
        if split == ("train" if _ONE.match(english) else split_of(english)):
            return english, _plain(say(_locale("cs")))


def _plain(text: str) -> str:
    """Without the spaces that do not break, which look like others."""
    return text.replace("\u202f", " ").replace("\u00a0", " ")


def _date(rng: np.random.Generator) -> Callable[[Locale], str]:
    from babel import dates

    day = dt.date(1900, 1, 1) + dt.timedelta(days=int(rng.integers(55_000)))
    form = ("full", "long", "medium", "short")[rng.integers(4)]
    if form == "medium" and day.month == MAY:
        form = "long"  # which English writes alike, and Czech does not
    return lambda locale: dates.format_date(day, form, locale)


def _time(rng: np.random.Generator) -> Callable[[Locale], str]:
    from babel import dates

    hour, minute, second = (int(rng.integers(most)) for most in (24, 60, 60))
    time = dt.time(hour, minute, second)
    form = ("medium", "short")[rng.integers(2)]
    return lambda locale: dates.format_time(time, form, locale=locale)


def _date_and_time(rng: np.random.Generator) -> Callable[[Locale], str]:
    date, time = _date(rng), _time(rng)
    return lambda locale: f"{date(locale)} {time(locale)}"


def _number(rng: np.random.Generator) -> Callable[[Locale], str]:
    from babel import numbers

    number = _drawn_number(rng)
    return lambda locale: numbers.format_decimal(number, locale=locale)


def _unit(rng: np.random.Generator) -> Callable[[Locale], str]:
    from babel import units

    number, unit = _drawn_number(rng), _UNITS[rng.integers(len(_UNITS))]
    return lambda locale: units.format_unit(number, unit, "long", locale=locale)


def _drawn_number(rng: np.random.Generator) -> float | int:
    """One to six digits, sometimes with one or two behind the point, sometimes negative."""
    number = int(rng.integers(10 ** int(rng.integers(1, 7))))
    sign = -1 if rng.random() < 0.1 else 1
    decimals = int(rng.integers(1, 3)) if rng.random() < 0.3 else 0
    return sign * (round(number + float(rng.random()), decimals) if decimals else number)


def _names(rng: np.random.Generator) -> Callable[[Locale], str]:
    from babel.lists import format_list

    kind = ("territories", "languages")[rng.integers(2)]
    codes = _codes(kind)
    chosen = [codes[i] for i in rng.choice(len(codes), int(rng.integers(2, 4)), replace=False)]
    return lambda locale: format_list([getattr(locale, kind)[code] for code in chosen], locale=locale)


@cache
def _locale(name: str) -> Locale:
    from babel import Locale

    return Locale.parse(name)  # once: parsing takes longer than formatting a number


@cache
def _codes(kind: str) -> list[str]:
    """Codes of two letters that both languages have a name for."""
    names = [getattr(_locale(name), kind) for name in ("en", "cs")]
    return sorted(code for code in names[0] if len(code) == 2 and all(code in each for each in names))


_KINDS: tuple[Callable[[np.random.Generator], Callable[[Locale], str]], ...] = (
    _date,
    _time,
    _date_and_time,
    _number,
    _unit,
    _names,
)
