"""Names that users chose, such as those of classes, as a figure can draw them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from anyascii import anyascii
from matplotlib import font_manager

USUAL = "DejaVu Sans"  # comes with matplotlib
LONGEST = 24  # letters of a name; longer ones are cut
_WITHOUT_OUTLINES = ("color", "emoji", "last resort", "lastresort")  # fonts that are pictures, or boxes for everything


def drawable(names: Sequence[str], longest: int = LONGEST) -> tuple[list[str], list[str]]:
    """Names letter by letter, in fonts that have the letters.

    A letter that no installed font has is transcribed to ASCII. `$` starts no mathematics; what can't be printed shows
    as its escape. No two different names become the same.

    Args:
      names: as users wrote them.
      longest: number of letters, at least 4; the middle of longer names is left out.
    Returns: (the names, for matplotlib; font families, the first first, for `style.figure`).

    >>> drawable(["$5_$10", "a\\nb"])[0]
    ['\\\\$5_\\\\$10', 'a\\\\nb']
    """
    printable = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in name) for name in names]
    wanted = {c for name in printable for c in name}
    missing = frozenset(wanted - letters_of(_file(USUAL)))
    families = _families(missing) if missing else ()
    lacking = missing.difference(*(letters_of(_file(family)) for family in families))
    written = [_transcribed(name, lacking) for name in printable]
    short = [name if len(name) <= longest else f"{name[: longest - 4]}…{name[-3:]}" for name in written]
    twice = {name for name in short if short.count(name) > 1}
    told = [f"{name} ({i})" if name in twice else name for i, name in enumerate(short)]
    return [name.replace("$", r"\$") for name in told], [USUAL, *families]


def _transcribed(name: str, lacking: Iterable[str]) -> str:
    """A name without letters that no font has; one that even a transcription lacks is written as its number."""
    if not set(name) & set(lacking):
        return name
    return "".join((anyascii(c).strip() or f"U+{ord(c):04X}") if c in lacking else c for c in name)


def _families(missing: frozenset[str]) -> tuple[str, ...]:
    """Installed font families that have missing letters, those that have most of them first, until all are found."""
    found: list[str] = []
    left = set(missing)
    files = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if not any(sign in entry.name.lower() for sign in _WITHOUT_OUTLINES)
    }
    while left:
        name = max(files, key=lambda name: len(left & letters_of(files[name])), default=None)
        if name is None or not left & letters_of(files[name]):
            break
        found.append(name)
        left -= letters_of(files[name])
    return tuple(found)


def _file(family: str) -> str:
    return font_manager.findfont(family)


@cache
def letters_of(file: str) -> frozenset[str]:
    """The characters that a font file has; none if it can't be read."""
    try:
        return frozenset(map(chr, font_manager.get_font(file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
