"""Scenes as a data set: 8,192 for training, 1,024 for validation and 1,024 for testing, rendered when they are read.

Splits share no seed and no pose: `poses` says which rotations and sizes each has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import numpy as np

from ....errors import InputError
from ..source import Source
from .poses import Poses
from .render import MAX_OBJECTS, SIZES, scene
from .sprites import ATTRIBUTION, GROUPS, KINDS, sprites
from .stuff import STUFF

LENGTHS = {"train": 8192, "validation": 1024, "test": 1024}
_DEFAULT_SIZE, _DEFAULT_KINDS = 64, 16
_SEED = 0x5CE4E5  # changing it changes every result ever reported
_AT_ONCE = 16  # scenes that one program renders
_NUM_POSES = len(Poses.of("train").degrees)


def load(name: str, split: str, *, image_size: int | None = None) -> Source:
    """One split of scenes.

    Args:
      name: what follows "scenes:", SIZE or SIZE/KINDS. SIZE is the pixels per side, by default 64. KINDS is a number,
        for the first so many of `KINDS`, or a name of `GROUPS`; by default 16.
      split: "train", "validation" or "test".
      image_size: the size, where the name has none.
    Returns: the split; `render.scene` says what examples have. Its classes are the kinds, then `STUFF`.
    Raises: InputError for a name of another form, a size out of range, or two that differ.

    >>> source = load("64/digits", "test")
    >>> len(source), source.element_spec["masks"].shape, source.classes[-5:]
    (1024, (5, 64, 64), ('nine', 'sky', 'grass', 'water', 'sand'))
    """
    size, kinds = _parse(name, image_size)
    pictures = sprites(kinds)
    records = _Scenes(split, kinds, size, _ARRAYS)
    classes = classes_of(kinds)
    digest = hashlib.blake2b(pictures.pixels.tobytes(), digest_size=8).hexdigest()
    return Source(
        f"scenes:{name}" if name else "scenes",
        split,
        records,
        records.element_spec,
        classes,
        {"drawings": digest},
        is_thing=tuple(each not in STUFF for each in classes),
        attribution=ATTRIBUTION,
    )


def classes_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels of scenes with these kinds of objects."""
    return (*kinds, *STUFF)


def _parse(name: str, image_size: int | None) -> tuple[int, tuple[str, ...]]:
    """Size and kinds."""
    size, _, kinds = name.partition("/")
    chosen = _kinds(kinds or str(_DEFAULT_KINDS), name)
    number = int(size) if size.isdecimal() else None
    if number is None and size:
        raise InputError(
            f"scenes:{name} is not of the form scenes:SIZE or scenes:SIZE/KINDS, such as scenes:64/animals."
        )
    if None not in (number, image_size) and number != image_size:
        raise InputError(f"scenes:{name} has {number} pixels per side, and the image size is {image_size}: give one.")
    number = number or image_size or _DEFAULT_SIZE
    if not SIZES[0] <= number <= SIZES[1]:
        raise InputError(f"Scenes have {SIZES[0]} to {SIZES[1]} pixels per side, got {number}.")
    return number, chosen


def _kinds(kinds: str, name: str) -> tuple[str, ...]:
    if kinds in GROUPS:
        return GROUPS[kinds]
    if not kinds.isdecimal() or not 1 <= int(kinds) <= len(KINDS):
        raise InputError(
            f"scenes:{name} asks for the kinds {kinds!r}. Valid are: a number from 1 to {len(KINDS)}, "
            f"{', '.join(GROUPS)}."
        )
    return KINDS[: int(kinds)]


_ARRAYS = ("image", "boxes", "labels", "crowd", "masks", "semantic")


@dataclass(frozen=True)
class _Scenes:
    """Records that are rendered, `_AT_ONCE` at a time by one program, so that a scene is always the same."""

    split: str
    kinds: tuple[str, ...]
    size: int
    names: tuple[str, ...]
    """The arrays of an example."""

    @property
    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        shaped = jax.eval_shape(self._program, np.zeros(_AT_ONCE, np.uint32))
        return {name: jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for name, each in shaped.items()}

    @property
    def _program(self) -> Callable[[np.ndarray], dict[str, jax.Array]]:
        """Numbers of scenes [_AT_ONCE] -> arrays of these scenes."""
        program, pictures = _program(self.kinds, self.size, self.names)
        poses = Poses.of(self.split)
        # As many for each split, so that one program serves all.
        poses = Poses(*(np.tile(each, (_NUM_POSES // len(each), 1)) for each in poses))
        return partial(program, pictures, poses, list(LENGTHS).index(self.split))

    def select(self, names: Sequence[str]) -> _Scenes:
        """The same scenes with some arrays alone: what is not asked for is not computed."""
        return replace(self, names=tuple(names))

    def __len__(self) -> int:
        return LENGTHS[self.split]

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return next(self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        program = self._program
        for start in range(0, len(indices), _AT_ONCE):
            chunk = np.array(indices[start : start + _AT_ONCE], np.uint32)
            padded = np.pad(chunk, (0, _AT_ONCE - len(chunk)), mode="edge")
            arrays = {name: np.asarray(each) for name, each in program(padded).items()}
            for place in range(len(chunk)):
                yield {name: each[place] for name, each in arrays.items()}


@cache
def _program(kinds: tuple[str, ...], size: int, names: tuple[str, ...]):
    """(what renders scenes, compiled once for all splits; the pictures that it renders, on device)."""

    @jax.jit
    def render(pictures, poses, number_of_split, numbers):
        of_split = jax.random.fold_in(jax.random.key(_SEED), number_of_split)
        keys = jax.vmap(partial(jax.random.fold_in, of_split))(numbers)
        scenes = jax.vmap(lambda key: scene(key, pictures, poses, size=size, max_objects=MAX_OBJECTS))(keys)
        return {name: scenes[name] for name in names}

    return render, jax.device_put(sprites(kinds))
