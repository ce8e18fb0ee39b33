"""The order in which training sees the examples: a function of (seed, epoch), and of nothing else.

Both data paths are built on `epoch_order`: the device-resident path gathers by it, `stream` reads by it, and
so both give the same batches. Batch k is a function of (seed, k); the data position of a run is one integer,
its step.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .source import Source

# Epochs whose order `stream` remembers: with prefetch, threads may work on both sides of a boundary, and in a
# set of a few batches on several.
_REMEMBERED_EPOCHS = 8


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of the examples in one epoch.

    Args:
      seed: of the run, 0 … 2⁶⁴-1.
      epoch: from 0.
      length: how many examples there are.
    Returns: a permutation of 0 … length-1, int32 [length].
    Raises: ValueError if an argument is negative or out of range.
    """
    for what, value, limit in (("seed", seed, 2**64), ("epoch", epoch, 2**64), ("length", length, 2**31)):
        if not 0 <= operator.index(value) < limit:
            raise ValueError(f"The {what} of an order must be at least 0 and below {limit}, got {value}.")
    return permutation(seed, epoch, length)


def permutation(word: int, other_word: int, length: int) -> np.ndarray:
    """The permutation that two 64-bit words name, int32 [length].

    It sorts raw words of Philox, a counter-based generator with exactly such a key. NumPy promises that these
    words never change; of `Generator.permutation` it does not promise that.
    """
    words = np.random.Philox(key=np.array([word, other_word], np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable").astype(np.int32)


def stream(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    threads: int = 4,
    prefetch: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches, epoch after epoch, read ahead by threads.

    The examples of an epoch that do not fill a batch are dropped; each epoch drops others.

    Args:
      source: where the examples come from.
      batch_size: examples a batch.
      seed: of the order.
      start_step: the first batch: `stream(start_step=k)` goes on exactly where k batches of another stream
        ended.
      threads: that read. 0 reads in the caller's thread.
      prefetch: batches to read ahead.
    Returns: dicts of what `source.element_spec` names, stacked [batch_size, ...], and "index", int32
      [batch_size]: which examples of the source they are.
    Raises: ValueError, at once, if the batch size is not in 1 … len(source) or another number is out of
      range.
    """
    if not 1 <= batch_size <= len(source):
        raise ValueError(
            f"The batch size must be at least 1 and at most the {len(source)} examples of {source.name} "
            f"{source.split}, got {batch_size}."
        )
    for what, value, least in (
        ("start_step", start_step, 0),
        ("threads", threads, 0),
        ("prefetch", prefetch, 1),
    ):
        if value < least:
            raise ValueError(f"{what} must be at least {least}, got {value}.")
    epoch_order(seed, 0, len(source))  # a bad seed is an error here, not in a thread

    import grain

    batches = grain.MapDataset.source(_Batches(source, batch_size, seed))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


def in_order(source: Source, *, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Every example once, in order, for evaluation; the last batch has what is left.

    Args:
      source: where the examples come from.
      batch_size: examples a batch, at least 1.
    Returns: dicts as of `stream`.
    """
    for start in range(0, len(source), batch_size):
        indices = np.arange(start, min(start + batch_size, len(source)), dtype=np.int32)
        yield {**source.read(indices), "index": indices}


class _Batches:
    """All batches of all epochs, as grain wants a source: step -> batch, for any step.

    Whole batches, where grain could batch examples: a source reads many at once much faster than one by one.
    """

    def __init__(self, source: Source, batch_size: int, seed: int):
        self._source = source
        self._batch_size = batch_size
        self._per_epoch = len(source) // batch_size
        self._order = lru_cache(_REMEMBERED_EPOCHS)(lambda epoch: epoch_order(seed, epoch, len(source)))

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(index, self._per_epoch)
        indices = self._order(epoch)[place * self._batch_size :][: self._batch_size]
        return {**self._source.read(indices), "index": indices}
