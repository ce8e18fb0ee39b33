"""A split of a data set: examples by index, and what is known about them before one is read.

An example is a dict of named arrays of fixed shape: an image and its label, tokens and their length. A source knows
nothing of order, batches or devices. Two names have a meaning of their own: an optional "weight" (float32 []) says how
much an example counts, 0 for not at all, and "index" is reserved for batches, which say by it which examples they hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

import jax
import numpy as np

from ...errors import InputError, listed
from ..order import permutation

# Examples of fewer bytes are read by one thread: their decoding is mostly Python, which a second thread only delays.
# Measured with Fashion-MNIST (784 bytes) on 2 cores: 1 thread takes 0.7 of the time of 2.
_THREADED_FROM_BYTES = 2**14
_CHUNK = 256  # examples requested at once


class Records(Protocol):
    """What a source reads from: a length, and examples by index, also from several threads.

    If reading many at once is faster, an optional `__getitems__(indices)`, as PyTorch calls it, returns them. Where the
    labels are known without reading the examples, an optional `labels` has them, [len]. Where some arrays can be made
    without the others, an optional `select(names)` returns such records.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set.

    Raises: InputError if the element spec has the reserved "index", or a "weight" that is not float32 [].

    >>> sentences = [{"tokens": np.array([5, 2, 0], np.int32), "length": np.int32(2)}] * 10
    >>> spec = {"tokens": jax.ShapeDtypeStruct((3,), np.int32), "length": jax.ShapeDtypeStruct((), np.int32)}
    >>> source = Source("sentences", "train", sentences, spec)
    >>> len(source), source.arrays()["tokens"].shape
    (10, (10, 3))
    """

    name: str
    """The name that the user gave, such as "tfds:fashion_mnist"."""
    split: str
    """One of "train", "validation" and "test"."""
    records: Records
    """The examples."""
    element_spec: Mapping[str, jax.ShapeDtypeStruct]
    """Shape and dtype of each array of an example, such as "image" uint8 [height, width, channel] and "label" int32
    []."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, …; empty where there are no classes."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What the set consists of, all its splits: the name of each file or part -> its size, and a digest where the
    content was read. Two sets that differ in it are not the same data. Empty if it is not known."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should read: what was left out."""
    is_thing: tuple[bool, ...] = ()
    """Whether each class is of things, which are counted (an elephant), or of stuff (sky); empty where unknown."""
    attribution: str = ""
    """What must stand wherever images of these examples are shown, if their license asks for it."""

    def __post_init__(self):
        if "index" in self.element_spec:
            raise InputError(f'Examples of {self.name} have an array "index": batches keep this name for themselves.')
        weight = self.element_spec.get("weight")
        if weight is not None and (weight.shape, weight.dtype) != ((), np.float32):
            raise InputError(
                f'"weight" must be float32 of shape []; that of {self.name} is {weight.dtype} {list(weight.shape)}.'
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """One example, as `element_spec` describes it. Raises IndexError outside 0 … len − 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} {self.split} has examples 0 … {len(self) - 1}, not {index}.")
        return dict(self.records[index])

    @property
    def nbytes(self) -> int:
        """Bytes that `arrays()` takes; nothing is read or allocated."""
        return len(self) * _bytes_of_one(self.element_spec)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every example, stacked: [len(self), ...]."""
        threaded = _bytes_of_one(self.element_spec) >= _THREADED_FROM_BYTES
        return self.read(np.arange(len(self)), num_threads=os.cpu_count() or 1 if threaded else 1)

    def read(self, indices: np.ndarray, *, num_threads: int = 1) -> dict[str, np.ndarray]:
        """Some examples, stacked.

        Args:
          indices: Which examples, integer [n], each in 0 … len − 1.
          num_threads: Number of threads that read.
        Returns: What `element_spec` names, each [n, ...].
        Raises: InputError if an example is not what `element_spec` says.
        """
        stacked = {name: np.empty((len(indices), *spec.shape), spec.dtype) for name, spec in self.element_spec.items()}

        def fill(start: int) -> None:
            for place, example in enumerate(_several(self.records, indices[start : start + _CHUNK]), start):
                self._check(example, indices[place])
                for name, value in example.items():
                    stacked[name][place] = value

        starts = range(0, len(indices), _CHUNK)
        if num_threads == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(fill, starts))
        return stacked

    def _check(self, example: Mapping[str, np.ndarray], index: int) -> None:
        """Without this, a missing array would be read as garbage, and one that is too small broadcast."""
        if example.keys() != self.element_spec.keys():
            raise InputError(
                f"Example {index} of {self.name} {self.split} has {listed(example)} where element_spec has "
                f"{listed(self.element_spec)}."
            )
        for name, value in example.items():
            if np.shape(value) != self.element_spec[name].shape:
                raise InputError(
                    f"{name} of example {index} of {self.name} {self.split} has shape {list(np.shape(value))} where "
                    f"element_spec has {list(self.element_spec[name].shape)}."
                )


@dataclass(frozen=True)
class Arrays:
    """Records in memory: {name: [n, …]}."""

    arrays: Mapping[str, np.ndarray]

    @property
    def labels(self) -> np.ndarray | None:
        """Those of the examples, if they have any."""
        return self.arrays.get("label")

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return {name: np.asarray(values[index]) for name, values in self.arrays.items()}


def in_memory(source: Source) -> Source:
    """The same examples, read here once and kept, `source.nbytes` bytes: for what would read them again and again.

    Args:
      source: The split.
    Raises: InputError if an example is not what `element_spec` says.

    >>> from etude import data
    >>> len(data.in_memory(data.select(data.load("scenes:32", "test"), ["semantic"])))
    1024
    """
    return source if isinstance(source.records, Arrays) else replace(source, records=Arrays(source.arrays()))


def select(source: Source, names: Sequence[str]) -> Source:
    """The same examples with some of their arrays alone. What is left out is not made, where the records can do that.

    Args:
      source: The split.
      names: Names of arrays in `source.element_spec`.
    Raises: InputError for a name that is not there.

    >>> from etude import data
    >>> list(data.select(data.load("scenes", "test"), ["image", "semantic"])[0])
    ['image', 'semantic']
    """
    missing = [name for name in names if name not in source.element_spec]
    if missing:
        raise InputError(
            f"Examples of {source.name} have no {', '.join(missing)}: they have {', '.join(source.element_spec)}."
        )
    able = getattr(source.records, "select", None)
    records = able(names) if able is not None else _Selected(source.records, tuple(names))
    return replace(source, records=records, element_spec={name: source.element_spec[name] for name in names})


@dataclass(frozen=True)
class _Selected:
    """Records without some of their arrays."""

    records: Records
    names: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray | None:
        """Those of the records, if they know them."""
        return getattr(self.records, "labels", None)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self._chosen(self.records[index])

    def __getitems__(self, indices: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        return map(self._chosen, _several(self.records, np.asarray(indices)))

    def _chosen(self, example: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {name: example[name] for name in self.names}


def subset(source: Source, num_examples: int) -> Source:
    """Some examples of a split, always the same ones, in their order.

    Args:
      source: The split.
      num_examples: Number of examples to keep.
    Raises: InputError if `num_examples` is not in 1 … len(source).

    >>> from etude import data
    >>> len(data.subset(data.load("digits", "train"), 100))
    100
    """
    if not 1 <= num_examples <= len(source):
        raise InputError(
            f"A subset of {source.name} {source.split} has 1 to {len(source)} examples, got {num_examples}."
        )
    kept = np.sort(permutation(1, 0, len(source))[:num_examples])
    return replace(source, records=_Some(source.records, kept))


def repeated(source: Source, times: int) -> Source:
    """The same examples several times, so that an epoch augments each of them anew as often.

    Args:
      source: The split.
      times: How often each occurs, at least 1.
    Raises: InputError for less.

    >>> from etude import data
    >>> len(data.repeated(data.load("digits", "validation"), 3)) / len(data.load("digits", "validation"))
    3.0
    """
    if times < 1:
        raise InputError(f"Examples can be repeated 1 or more times, got {times}.")
    return replace(source, records=_Some(source.records, np.tile(np.arange(len(source)), times)))


@dataclass(frozen=True)
class _Some:
    """The records at some indices."""

    records: Records
    indices: np.ndarray

    @property
    def labels(self) -> np.ndarray | None:
        """Those of the records, if they know them."""
        known = getattr(self.records, "labels", None)
        return None if known is None else known[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self.records[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> Iterable[Mapping[str, np.ndarray]]:
        return _several(self.records, self.indices[np.asarray(indices)])


def _several(records: Records, indices: np.ndarray) -> Iterable[Mapping[str, np.ndarray]]:
    """Records at many indices: all at once, where the records can do that faster."""
    get = getattr(records, "__getitems__", None)
    chosen = [int(index) for index in indices]
    return get(chosen) if get is not None else (records[index] for index in chosen)


def _bytes_of_one(element_spec: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    return sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in element_spec.values())
