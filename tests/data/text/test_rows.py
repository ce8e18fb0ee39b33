"""Texts in rows: each whole, once, beside its translation, and with little padding."""

import numpy as np
import pytest
from etude.data import text
from hypothesis import given
from hypothesis import strategies as st

ROOM = {"source": 12, "target": 10}


def texts(sizes):
    """A text of each size, whose tokens say which one it is."""
    return [np.full(size, 10 + number, np.int32) for number, size in enumerate(sizes)]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 10)), min_size=1, max_size=40), st.integers(0, 3))
def test_every_text_stands_whole_in_one_row_with_its_translation(sizes, seed):
    source, target = (texts(each) for each in zip(*sizes, strict=True))
    rows = text.pack({"source": source, "target": target}, ROOM, seed=seed)
    found = []
    for row in zip(*(rows[name] for name in ("source", "source_segments", "target", "target_segments")), strict=True):
        for number in range(1, row[3].max() + 1):
            own = [tokens[segments == number] for tokens, segments in (row[:2], row[2:])]
            found.append(int(own[1][0]) - 10)
            np.testing.assert_array_equal(own[0], source[found[-1]])
            np.testing.assert_array_equal(own[1], target[found[-1]])
            assert (np.diff(np.flatnonzero(row[3] == number)) == 1).all()
        assert not row[2][row[3] == 0].any()
    assert sorted(found) == list(range(len(sizes)))


def test_rows_of_many_short_texts_have_little_padding():
    sizes = np.random.default_rng(0).integers(3, 40, 3000)
    rows = text.pack({"text": texts(sizes)}, {"text": 128})
    assert (rows["text_segments"] > 0).mean() > 0.98


def test_a_text_longer_than_a_row_is_refused_and_its_beginning_fits_padded_rows():
    with pytest.raises(ValueError, match=r"13 tokens.*12"):
        text.pack({"text": texts([3, 13])}, {"text": 12})
    assert text.padded(texts([3, 13]), 4).tolist() == [[10, 10, 10, 0], [11, 11, 11, 11]]
    with pytest.raises(ValueError, match="differ in number"):
        text.pack({"source": texts([3]), "target": texts([3, 4])}, ROOM)
