"""Tables and arrays that a run wrote, when they are read again in whatever state."""

import numpy as np
import pytest
from etude import lab
from etude.errors import InputError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def table(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    return lab.read_csv(tmp_path / "table.csv")


def test_a_table_comes_back_exactly(tmp_path):
    numbers, names = np.random.default_rng(0).normal(size=5), ["a", "b, c", 'd"', "é", "f\ng"]
    lab.write_csv(tmp_path / "t.csv", ["x", "name"], zip(numbers, names, strict=True))
    found = lab.read_csv(tmp_path / "t.csv")
    assert found["x"].tolist() == numbers.tolist()
    assert found["name"].tolist() == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"x,y\n", "has no rows"),
        (b"x,y\n1,2\n3\n", "line 3 has 1 values, line 1 has 2 names"),
        (b"x,y\n1,2\n3,4\x00q\n", "y is '4.*' in line 3 and a number in others"),
        (b"x,y\n1,oops\n3,4\n", "y is 'oops' in line 2 and a number in others"),
        (b"x\n\xff\xfe\n", "is damaged"),
        (b'x\n"open\n', "is damaged"),
    ],
)
def test_a_damaged_table_is_named_with_what_is_wrong(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"table\.csv is damaged.*{message}|table\.csv {message}"):
        table(tmp_path, content)


def test_a_column_or_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"table\.csv has no loss, only x, y"):
        table(tmp_path, b"x,y\n1,2\n")["loss"]
    with pytest.raises(InputError, match=r"There is no file .*none\.csv"):
        lab.read_csv(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"There is no file .*none\.npz"):
        lab.load_arrays(tmp_path / "none.npz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_arrays_are_read_exactly_or_refused(tmp_path, place, value, cut):
    wanted = {"x": np.arange(50.0), "y": np.arange(3)}
    file = tmp_path / "arrays.npz"
    lab.save_arrays(file, wanted)
    content = bytearray(file.read_bytes())
    if cut:
        content = content[: place % len(content)]
    else:
        content[place % len(content)] = value
    file.write_bytes(content)
    try:
        found = lab.load_arrays(file)
    except InputError:
        return
    # What is read passed the archive's checksums; the name of an array may be what was damaged.
    for values, expected in zip(found.values(), wanted.values(), strict=False):
        np.testing.assert_array_equal(values, expected)
