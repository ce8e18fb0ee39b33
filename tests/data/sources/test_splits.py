"""The policy of splits."""

import numpy as np
import pytest
from etude.data.sources.splits import SPLITS, assign, carve
from hypothesis import given
from hypothesis import strategies as st


@given(length=st.integers(20, 3000), stored=st.sets(st.sampled_from(["validation", "test", "extra"])))
def test_whatever_a_set_comes_with_no_example_is_in_two_splits_and_none_is_lost(length, stored):
    lengths = {"train": length} | dict.fromkeys(sorted(stored), 50)
    found = [(which, i) for split in SPLITS for which, indices in [assign(lengths, split)] for i in indices.tolist()]
    assert len(set(found)) == len(found)
    assert len(found) == sum(n for name, n in lengths.items() if name != "extra")


@pytest.mark.parametrize(
    ("stored", "sizes"),
    [
        ({"train": 100, "validation": 30, "test": 20}, {"train": 100, "validation": 30, "test": 20}),
        ({"train": 100, "test": 20}, {"train": 90, "validation": 10, "test": 20}),
        ({"train": 100, "validation": 30}, {"train": 90, "validation": 10, "test": 30}),
        ({"train": 100}, {"train": 80, "validation": 10, "test": 10}),
    ],
)
def test_what_a_set_does_not_come_with_is_carved_from_train(stored, sizes):
    assert {split: len(assign(stored, split)[1]) for split in SPLITS} == sizes


def test_a_stored_validation_split_is_the_test_split_where_there_is_no_other():
    assert assign({"train": 100, "validation": 30}, "test")[0] == "validation"
    assert assign({"train": 100, "validation": 30}, "validation")[0] == "train"


def test_the_carved_examples_are_spread_over_the_set():
    validation = carve(60_000, {"validation": 0.1})["validation"]
    # Of 6,000 uniform draws the mean is within 4 standard errors, 4·17,320/√6,000 = 895.
    assert abs(validation.mean() - 30_000) < 895


def test_the_carving_is_the_same_for_ever():
    # If this fails, results from before and after the change can't be compared.
    assert carve(60_000, {"validation": 0.1})["validation"][:6].tolist() == CARVED


CARVED = [7, 10, 23, 29, 31, 34]


@pytest.mark.parametrize("stored", [{"test": 10}, {}, {"train": 1}, {"train": 2}])
def test_a_set_without_enough_to_train_on_is_refused(stored):
    with pytest.raises(ValueError, match=r"no train split|too few"):
        assign(stored, "train")


def test_indices_are_ascending():
    for indices in carve(1000, {"validation": 0.1, "test": 0.1}).values():
        assert (np.diff(indices) > 0).all()
