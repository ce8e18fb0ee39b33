"""Batches of a source, read on the host: shuffled and endless for training, in order for evaluation.

A batch is a dict of the arrays that `Source.element_spec` names, stacked, and "index": which examples they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ..errors import InputError
from .order import epoch_batches, epoch_order, num_batches, repeat_last
from .sources import Source

# Number of epochs whose order `stream` remembers: with prefetching, threads may work on both sides of a boundary, and
# on several epochs where a set has only a few batches.
_REMEMBERED_EPOCHS = 8


def stream(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    drop_remainder: bool = True,
    num_threads: int = 4,
    prefetch: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches, epoch after epoch, read ahead by threads.

    Args:
      source: Where the examples come from.
      batch_size: Examples per batch.
      seed: Seed of the order.
      start_step: Number of the first batch: `stream(start_step=k)` continues exactly where k batches of another stream
        ended.
      drop_remainder: Whether to drop the examples of an epoch that do not fill a batch; each epoch drops different
        ones. Otherwise the last batch of an epoch is filled up by repeating its last example, and every batch has
        "weight".
      num_threads: Number of threads that read. 0 reads in the caller's thread.
      prefetch: Number of batches to read ahead.
    Returns: Dicts of what `source.element_spec` names, stacked [batch_size, ...], and "index", int32 [batch_size]:
      which examples of the source they are. Without dropping, also "weight", float32 [batch_size]: 0 for a repeated
      example, else the weight that the source gives the example, or 1.
    Raises: InputError, at once, if the source is empty, the batch size is below 1 or, with dropping, above len(source),
      or another number is out of range.

    >>> from etude import data
    >>> batch = next(data.stream(data.load("digits", "validation"), batch_size=50, seed=0))
    >>> {name: array.shape for name, array in batch.items()}
    {'image': (50, 8, 8, 1), 'label': (50,), 'index': (50,)}
    """
    if not len(source) or batch_size < 1 or (drop_remainder and batch_size > len(source)):
        most = f" and at most the {len(source)} examples" if drop_remainder else f", for the {len(source)} examples"
        raise InputError(f"The batch size must be at least 1{most} of {source.name} {source.split}, got {batch_size}.")
    for what, value, least in (
        ("start_step", start_step, 0),
        ("num_threads", num_threads, 0),
        ("prefetch", prefetch, 1),
    ):
        if value < least:
            raise InputError(f"{what} must be at least {least}, got {value}.")
    epoch_order(seed, 0, len(source))  # so that a bad seed fails here, not in a thread

    import grain

    batches = grain.MapDataset.source(_Batches(source, batch_size, seed, drop_remainder))
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


def in_order(source: Source, *, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Every example once, in order, for evaluation; the last batch has what is left.

    Args:
      source: Where the examples come from.
      batch_size: Examples per batch, at least 1.
    Returns: Dicts of what `source.element_spec` names, stacked [batch, ...], and "index", int32 [batch].

    >>> from etude import data
    >>> [len(batch["index"]) for batch in data.in_order(data.load("digits", "validation"), batch_size=100)]
    [100, 79]
    """
    for start in range(0, len(source), batch_size):
        indices = np.arange(start, min(start + batch_size, len(source)), dtype=np.int32)
        yield {**source.read(indices), "index": indices}


class _Batches:
    """All batches of all epochs, as grain wants a source: step -> batch, for any step.

    grain could batch examples itself, but a source reads many at once much faster than one by one.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, drop_remainder: bool):
        self._source = source
        self._drop_remainder = drop_remainder
        self._per_epoch = num_batches(len(source), batch_size, drop_remainder)
        self._batches = lru_cache(_REMEMBERED_EPOCHS)(
            lambda epoch: epoch_batches(seed, epoch, len(source), batch_size, drop_remainder)
        )

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(index, self._per_epoch)
        indices = self._batches(epoch)[place]
        if self._drop_remainder:
            return {**self._source.read(indices), "index": indices}
        indices, weight = repeat_last(indices)
        batch = self._source.read(indices)
        return {**batch, "weight": weight * batch.get("weight", np.float32(1)), "index": indices}
