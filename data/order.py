"""The order in which training sees the examples: a function of (seed, epoch), and of nothing else.

Resident training gathers by `epoch_batches` and `batches.stream` reads by it, so both see the same batches. Batch k of
a run is a function of (seed, k), so the data position of a run is one integer: its step.
"""

from __future__ import annotations

import operator

import numpy as np

from ..errors import InputError


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of the examples in one epoch.

    Args:
      seed: Seed of the run, 0 … 2⁶⁴ − 1.
      epoch: Number of the epoch, from 0.
      length: Number of examples.
    Returns: A permutation of 0 … length − 1, int32 [length].
    Raises: InputError if an argument is negative or out of range.

    >>> epoch_order(seed=1, epoch=2, length=8)
    array([4, 2, 0, 6, 1, 5, 7, 3], dtype=int32)
    """
    for what, value, limit in (("seed", seed, 2**64), ("epoch", epoch, 2**64), ("length", length, 2**31)):
        if not 0 <= operator.index(value) < limit:
            raise InputError(f"The {what} of an order must be at least 0 and below {limit}, got {value}.")
    return permutation(seed, epoch, length)


def epoch_batches(seed: int, epoch: int, length: int, batch_size: int, drop_remainder: bool = True) -> np.ndarray:
    """The examples of each batch in one epoch.

    Args:
      seed: Seed of the run, 0 … 2⁶⁴ − 1.
      epoch: Number of the epoch, from 0.
      length: Number of examples.
      batch_size: Examples per batch, at least 1.
      drop_remainder: Whether to drop the examples that do not fill a batch; each epoch drops different ones. Otherwise
        the last batch holds them, and its other places are −1; `repeat_last` says what to put there.
    Returns: Indices of examples, int32 [num_batches, batch_size], where num_batches is length / batch_size, rounded
      down or, without dropping, up.
    Raises: InputError if an argument is out of range.

    >>> epoch_batches(seed=1, epoch=2, length=8, batch_size=3)
    array([[4, 2, 0],
           [6, 1, 5]], dtype=int32)
    >>> epoch_batches(seed=1, epoch=2, length=8, batch_size=3, drop_remainder=False)
    array([[ 4,  2,  0],
           [ 6,  1,  5],
           [ 7,  3, -1]], dtype=int32)
    """
    if batch_size < 1:
        raise InputError(f"The batch size must be at least 1, got {batch_size}.")
    order = epoch_order(seed, epoch, length)
    steps = num_batches(length, batch_size, drop_remainder)
    batches = np.full(steps * batch_size, -1, np.int32)
    kept = order[: len(batches)]
    batches[: len(kept)] = kept
    return batches.reshape(steps, batch_size)


def num_batches(length: int, batch_size: int, drop_remainder: bool = True) -> int:
    """The number of batches in an epoch: length / batch_size, rounded down or, without dropping, up."""
    return length // batch_size if drop_remainder else -(-length // batch_size)


def repeat_last(batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replaces the empty places of batches by the last example of their batch, with weight 0.

    Args:
      batches: Indices of examples, int32 [..., batch], as `epoch_batches` returns them: at least one in each batch,
        then −1 in the empty places.
    Returns: (indices without −1, int32 [..., batch]; weights, float32 [..., batch]: 0 in empty places, else 1).

    >>> repeat_last(np.array([7, 3, -1], np.int32))
    (array([7, 3, 3], dtype=int32), array([1., 1., 0.], dtype=float32))
    """
    real = batches >= 0
    last = np.take_along_axis(batches, real.sum(-1, keepdims=True) - 1, axis=-1)
    return np.where(real, batches, last), real.astype(np.float32)


def permutation(word: int, other_word: int, length: int) -> np.ndarray:
    """The permutation that two 64-bit words name, int32 [length].

    It sorts raw words of Philox, a counter-based generator with exactly such a key. NumPy promises that these words
    never change; it does not promise that of `Generator.permutation`.
    """
    words = np.random.Philox(key=np.array([word, other_word], np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable").astype(np.int32)
