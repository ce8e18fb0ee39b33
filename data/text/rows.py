"""Texts in rows of fixed length, so that one compiled program serves all batches: one text a row, or several.

`padded` gives each text a row of its own. `pack` puts several into a row, one behind the other, which leaves little
padding; the number of each, from 1, says which positions belong together, and networks see nothing else of the row.
Texts in several languages stay together: translations have the same number in the same row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError
from .tokenizer import PAD

OPEN_ROWS = 256  # that wait for more texts: the more there are, the fuller they get
SEGMENTS = "_segments"


def padded(texts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Each text in a row of its own, with padding behind it: int32 [texts, length].

    Args:
      texts: tokens of each, integer [its length].
      length: length of a row. Of a longer text, the beginning stays.

    >>> padded([np.array([7, 8, 2]), np.array([9, 2])], 4).tolist()
    [[7, 8, 2, 0], [9, 2, 0, 0]]
    """
    rows = np.full((len(texts), length), PAD, np.int32)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text[:length]
    return rows


def pack(
    columns: Mapping[str, Sequence[np.ndarray]], lengths: Mapping[str, int], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Several texts to a row, each whole and in one row alone.

    Args:
      columns: name -> tokens of each text, integer [its length]; texts of one number are translations of each other.
      lengths: length of a row of each column.
      seed: decides which texts stand together.
    Returns: of each column, its name -> tokens, int32 [rows, length], and its name with "_segments" -> the number of
      the text in its row that a token belongs to, int32 of the same shape, and 0 for padding.
    Raises: InputError if columns differ in number, or a text is longer than a row.

    >>> rows = pack({"text": [np.array([7, 8, 2]), np.array([9, 2]), np.array([5, 5, 2])]}, {"text": 6})
    >>> rows["text"].tolist(), rows["text_segments"].tolist()
    ([[5, 5, 2, 7, 8, 2], [9, 2, 0, 0, 0, 0]], [[1, 1, 1, 2, 2, 2], [1, 1, 0, 0, 0, 0]])
    """
    sizes = {name: np.array([len(text) for text in texts], int) for name, texts in columns.items()}
    if len({len(each) for each in sizes.values()}) > 1:
        raise InputError(f"Columns differ in number: {', '.join(f'{k} {len(v)}' for k, v in sizes.items())}.")
    for name, each in sizes.items():
        if len(each) and each.max() > lengths[name]:
            raise InputError(f"A text has {each.max()} tokens; a row of {name} has {lengths[name]}.")
    members = _rows_of(np.stack([*sizes.values()], 1), np.array([lengths[name] for name in columns]), seed)
    made = {}
    for name, texts in columns.items():
        tokens = np.full((len(members), lengths[name]), PAD, np.int32)
        segments = np.zeros_like(tokens)
        for row, number, own in zip(tokens, segments, members, strict=True):
            start = 0
            for place, text in enumerate((texts[i] for i in own), 1):
                row[start : start + len(text)] = text
                number[start : start + len(text)] = place
                start += len(text)
        made |= {name: tokens, name + SEGMENTS: segments}
    return made


def _rows_of(sizes: np.ndarray, room: np.ndarray, seed: int) -> list[list[int]]:
    """Which texts stand in each row, for sizes [texts, columns]: each where it leaves the least room, of the open rows.

    In random order, since a row that is closed has been passed by many texts, and few of them were long.
    """
    rows: list[list[int]] = []
    of_place = np.zeros(OPEN_ROWS, int)  # row that stands in each place
    left = np.zeros((OPEN_ROWS, len(room)), int)
    for text in np.random.default_rng(seed).permutation(len(sizes)):
        rest = (left - sizes[text]).min(1)
        fits = rest >= 0
        if fits.any():
            place = int(np.where(fits, rest, room.max() + 1).argmin())
        else:
            place = int(left.min(1).argmin())
            of_place[place], left[place] = len(rows), room
            rows.append([])
        rows[of_place[place]].append(int(text))
        left[place] -= sizes[text]
    return rows
