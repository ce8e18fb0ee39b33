"""The order of examples, and the stream of batches that follows it."""

from itertools import islice

import numpy as np
import pytest
from etude import data
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "validation")  # 179: no round number of batches


@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10**6), length=st.integers(0, 300))
def test_an_order_is_a_permutation_and_nothing_else_changes_it(seed, epoch, length):
    order = data.epoch_order(seed, epoch, length)
    np.random.random(3)  # noqa: NPY002 - the global generator must not matter
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(length))
    np.testing.assert_array_equal(order, data.epoch_order(seed, epoch, length))


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=2, max_size=5, unique=True))
def test_orders_of_other_seeds_or_epochs_differ(words):
    orders = {data.epoch_order(seed, epoch, 100).tobytes() for seed, epoch in words}
    assert len(orders) == len(words)


def test_every_example_comes_first_equally_often():
    first = [data.epoch_order(seed, epoch, 10)[0] for seed in range(50) for epoch in range(100)]
    # 5,000 draws of ten: each count is within 5 standard deviations, 5·√(5,000·0.09) = 106, of 500.
    assert np.abs(np.bincount(first, minlength=10) - 500).max() < 106


def test_an_order_is_the_same_for_ever():
    # If this fails, runs from before the change can't be resumed after it.
    assert data.epoch_order(1, 2, 8).tolist() == ORDER


ORDER = [4, 2, 0, 6, 1, 5, 7, 3]


@pytest.mark.parametrize("arguments", [(-1, 0, 5), (0, -1, 5), (0, 0, -5), (2**64, 0, 5), (0, 0, 2**31)])
def test_an_order_of_numbers_out_of_range_is_refused(arguments):
    with pytest.raises(ValueError, match="at least 0"):
        data.epoch_order(*arguments)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_a_stream_is_what_gathering_by_hand_gives_across_epochs(digits, threads):
    arrays, batches = digits.arrays(), 179 // 50
    stream = data.stream(digits, batch_size=50, seed=7, num_threads=threads)
    for epoch in range(3):
        order = data.epoch_order(7, epoch, len(digits))
        for k, batch in enumerate(islice(stream, batches)):
            index = order[50 * k : 50 * (k + 1)]
            np.testing.assert_array_equal(batch["index"], index)
            np.testing.assert_array_equal(batch["image"], arrays["image"][index])
            np.testing.assert_array_equal(batch["label"], arrays["label"][index])


@pytest.mark.parametrize("start_step", [1, 2, 3, 4, 11])  # three steps are an epoch
def test_a_stream_from_a_step_equals_skipping_to_it(digits, start_step):
    skipped = islice(data.stream(digits, batch_size=50, seed=0), start_step, start_step + 4)
    started = islice(data.stream(digits, batch_size=50, seed=0, start_step=start_step), 4)
    for a, b in zip(skipped, started, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_stream_starts_at_a_far_step_as_fast_as_at_the_first(digits):
    batch = next(data.stream(digits, batch_size=50, seed=0, start_step=3 * 10**12 + 1))
    np.testing.assert_array_equal(batch["index"], data.epoch_order(0, 10**12, len(digits))[50:100])


def test_batches_are_what_element_spec_says(digits):
    batch = next(data.stream(digits, batch_size=6, seed=0))
    specs = {name: ((6, *spec.shape), spec.dtype) for name, spec in digits.element_spec.items()}
    specs["index"] = ((6,), np.dtype(np.int32))
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == specs


def test_a_batch_may_be_the_whole_set(digits):
    batch = next(data.stream(digits, batch_size=len(digits), seed=0))
    assert sorted(batch["index"]) == list(range(len(digits)))


@pytest.mark.parametrize("batch_size", [-1, 0, 180])
def test_a_batch_size_that_fits_no_epoch_is_refused_at_once(digits, batch_size):
    with pytest.raises(ValueError, match=rf"at most the 179 examples of digits validation, got {batch_size}"):
        data.stream(digits, batch_size=batch_size, seed=0)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"start_step": -1}, {"num_threads": -1}, {"prefetch": 0}])
def test_other_numbers_out_of_range_are_refused_at_once(digits, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        data.stream(digits, **{"batch_size": 8, "seed": 0} | bad)
