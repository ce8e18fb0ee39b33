"""Streams and ordered batches of any arrays, with and without the remainder of an epoch."""

from itertools import islice

import jax
import numpy as np
import pytest
from etude import data

N = 11  # no multiple of the batch size
SPEC = {"tokens": jax.ShapeDtypeStruct((5,), np.int32), "length": jax.ShapeDtypeStruct((), np.int32)}
WEIGHT = {"weight": jax.ShapeDtypeStruct((), np.float32)}


def sentences(weights=None):
    """A source of token sequences with their lengths, and weights if given."""
    records = [{"tokens": np.arange(5, dtype=np.int32) + 10 * i, "length": np.int32(i % 5)} for i in range(N)]
    if weights is None:
        return data.Source("sentences", "train", records, SPEC)
    records = [record | {"weight": np.float32(weight)} for record, weight in zip(records, weights, strict=True)]
    return data.Source("sentences", "train", records, SPEC | WEIGHT)


def batches_of(source, num_batches, **options):
    return list(islice(data.stream(source, batch_size=4, seed=3, **options), num_batches))


def test_a_source_of_tokens_has_no_classes_and_is_read_like_any_other():
    source = sentences()
    assert (len(source), source.classes, source.nbytes) == (N, (), N * 24)
    np.testing.assert_array_equal(source.arrays()["length"], np.arange(N) % 5)
    read = source.read(np.array([7, 0]))
    np.testing.assert_array_equal(read["tokens"], [np.arange(5) + 70, np.arange(5)])
    assert len(data.subset(source, 4)) == 4


def test_a_source_of_tokens_has_no_images():
    for use in (data.require_images, data.moments):
        with pytest.raises(ValueError, match="sentences has no images: its examples have tokens, length"):
            use(sentences())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SPEC | {"index": jax.ShapeDtypeStruct((), np.int32)}, "batches keep this name"),
        (SPEC | {"weight": jax.ShapeDtypeStruct((), np.int32)}, r"must be float32 of shape \[\]; .* int32 \[\]"),
        (SPEC | {"weight": jax.ShapeDtypeStruct((5,), np.float32)}, r"that of sentences is float32 \[5\]"),
    ],
)
def test_names_with_a_meaning_of_their_own_are_checked(spec, message):
    with pytest.raises(ValueError, match=message):
        data.Source("sentences", "train", [], spec)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            {"tokens": np.zeros(5, np.int32)},
            "Example 0 of sentences train has tokens where element_spec has tokens, length",
        ),
        (
            {"tokens": np.zeros(1, np.int32), "length": np.int32(0)},
            r"tokens of example 0 .* has shape \[1\] .* has \[5\]",
        ),
    ],
)
def test_an_example_that_is_not_what_element_spec_says_is_an_error(example, message):
    with pytest.raises(ValueError, match=message):
        data.Source("sentences", "train", [example], SPEC).arrays()


def test_a_stream_and_ordered_batches_of_tokens_hold_the_examples_that_their_index_names():
    source = sentences()
    arrays = source.arrays()
    for batch in [*batches_of(source, 5), *data.in_order(source, batch_size=4)]:
        assert batch.keys() == {"tokens", "length", "index"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(batch[name], array[batch["index"]])


def test_weights_of_a_source_pass_through_unchanged():
    weights = np.linspace(0, 2, N, dtype=np.float32)
    source = sentences(weights)
    for batch in [*batches_of(source, 4), *data.in_order(source, batch_size=4)]:
        np.testing.assert_array_equal(batch["weight"], weights[batch["index"]])


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, N, dtype=np.float32)])
def test_without_dropping_every_example_of_an_epoch_counts_exactly_once(weights):
    own = np.ones(N, np.float32) if weights is None else weights
    stream = batches_of(sentences(weights), 6, drop_remainder=False)  # two epochs of ⌈11 / 4⌉
    for epoch in (stream[:3], stream[3:]):
        counted = np.zeros(N)
        for batch in epoch:
            assert (batch["tokens"].shape, batch["weight"].shape, batch["weight"].dtype) == ((4, 5), (4,), np.float32)
            np.testing.assert_array_equal(batch["tokens"][:, 0], 10 * batch["index"])
            np.add.at(counted, batch["index"], batch["weight"])
        np.testing.assert_allclose(counted, own)
        # The last batch is filled up with its last example.
        np.testing.assert_array_equal(epoch[-1]["weight"][3], 0)
        assert epoch[-1]["index"][2] == epoch[-1]["index"][3]


@pytest.mark.parametrize("drop_remainder", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_a_stream_reads_the_examples_of_epoch_batches(batch_size, drop_remainder):
    source = sentences()
    stream = data.stream(source, batch_size=batch_size, seed=5, drop_remainder=drop_remainder)
    for epoch in range(2):
        batches = data.epoch_batches(5, epoch, N, batch_size, drop_remainder)
        assert len(batches) == (N // batch_size if drop_remainder else -(-N // batch_size))
        for indices, batch in zip(batches, stream, strict=False):
            kept = indices >= 0
            np.testing.assert_array_equal(batch["index"][kept], indices[kept])
            if not drop_remainder:
                np.testing.assert_array_equal(batch["weight"], kept)
            if indices is batches[-1]:
                break


def test_epoch_batches_are_the_order_cut_up_with_minus_one_in_empty_places():
    order = data.epoch_order(1, 2, N)
    dropped, kept = data.epoch_batches(1, 2, N, 4), data.epoch_batches(1, 2, N, 4, drop_remainder=False)
    assert dropped.dtype == kept.dtype == np.int32
    np.testing.assert_array_equal(dropped, order[:8].reshape(2, 4))
    np.testing.assert_array_equal(kept.ravel(), [*order, -1])
    indices, weight = data.repeat_last(kept)
    np.testing.assert_array_equal(indices.ravel(), [*order, order[-1]])
    np.testing.assert_array_equal(weight.ravel(), [1] * N + [0])


def test_without_dropping_a_batch_may_be_larger_than_the_set():
    batch = next(data.stream(sentences(), batch_size=16, seed=0, drop_remainder=False))
    assert batch["weight"].sum() == N
    assert sorted(batch["index"][:N]) == list(range(N))


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_a_source_without_examples_is_refused(drop_remainder):
    with pytest.raises(ValueError, match="0 examples of empty train"):
        data.stream(data.Source("empty", "train", [], SPEC), batch_size=1, seed=0, drop_remainder=drop_remainder)


@pytest.mark.parametrize("batch_size", [0, -2])
def test_a_batch_size_below_one_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"at least 1, got {batch_size}"):
        data.epoch_batches(0, 0, 5, batch_size)
    with pytest.raises(ValueError, match=f"at least 1, for the 11 examples of sentences train, got {batch_size}"):
        data.stream(sentences(), batch_size=batch_size, seed=0, drop_remainder=False)
