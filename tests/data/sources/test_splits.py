"""The policy of splits."""

import numpy as np
import pytest
from etude.data.sources.splits import SPLITS, assign, assign_names, carve
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


def names_of(sizes, start=0):
    return [(f"{label}/{i}.jpg", label) for label, size in sizes.items() for i in range(start, start + size)]


def split_of(examples, **stored):
    """{name: split} of a set whose train split has these examples."""
    found = {}
    for split in SPLITS:
        which, indices = assign_names({"train": examples, **stored}, split)
        for i in indices:
            name = {"train": examples, **stored}[which][i][0]
            assert found.setdefault(name, split) == split
    return found


@given(sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), stored=st.booleans())
def test_by_names_no_example_is_lost_and_no_class_of_three_is_missing_from_a_split(sizes, stored):
    examples = names_of(sizes | {"large": 30})
    held_out = {"test": [("other.jpg", "large")]} if stored else {}
    found = split_of(examples, **held_out)
    assert len(found) == len(examples) + stored
    for label, size in sizes.items():
        of_class = {split for name, split in found.items() if name.startswith(f"{label}/")}
        wanted = {"train", "validation"} if stored else set(SPLITS)
        assert of_class == wanted if size >= len(wanted) else of_class == {"train"}


def test_by_names_a_tenth_of_each_class_is_in_each_held_out_split():
    found = split_of(names_of({"a": 4000, "b": 4000}))
    for label in "ab":
        for split in ("validation", "test"):
            count = sum(found[name] == split for name in found if name[0] == label)
            assert abs(count - 400) < 4 * np.sqrt(4000 * 0.1 * 0.9)  # 4 standard deviations of a binomial count


def test_by_names_examples_that_come_and_go_move_no_other():
    before = split_of(names_of({"a": 200, "b": 200}))
    after = split_of([*names_of({"a": 150, "b": 200}, start=20), ("c/new.jpg", "c")])
    common = before.keys() & after.keys()
    assert len(common) == 330
    assert all(before[name] == after[name] for name in common)


def test_by_names_accents_are_the_same_however_they_are_written():
    composed, decomposed = ([(f"caf{accent}/{i}", "x") for i in range(100)] for accent in ("\u00e9", "e\u0301"))
    assert list(split_of(composed).values()) == list(split_of(decomposed).values())


def test_by_names_classes_too_small_to_carve_are_refused():
    with pytest.raises(ValueError, match="4 examples are too few to carve test and validation from"):
        assign_names({"train": names_of({"a": 2, "b": 2})}, "train")
