"""What a person would say of a scene: a sentence made of its truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLURALS = {"mouse": "mice", "fish": "fish", "cherries": "cherries", "grapes": "grapes", "six": "sixes"}
_AS_THEY_ARE = ("cherries", "grapes")  # words without a singular
_LEAST = 0.02  # part of the picture that stuff must have to be named


def caption(example: Mapping[str, np.ndarray], classes: Sequence[str], is_thing: Sequence[bool]) -> str:
    """A sentence that counts the objects, from the largest kind to the smallest, and says what is behind them.

    Args:
      example: truth of a scene: "labels" [N], "masks" [N, height, width] and "semantic" [height, width].
      classes: names of the labels.
      is_thing: whether each class is one of objects.

    >>> labels, masks = np.array([1, 0, 0, -1]), np.ones((4, 2, 2), np.uint8)
    >>> truth = {"labels": labels, "masks": masks, "semantic": np.array([[0, 2], [1, 2]])}
    >>> caption(truth, ("apple", "elephant", "grass"), (True, True, False))
    'Two apples and an elephant over grass.'
    """
    labels, semantic = np.asarray(example["labels"]), np.asarray(example["semantic"])
    areas: Counter[int] = Counter()
    numbers: Counter[int] = Counter()
    for label, mask in zip(labels, np.asarray(example["masks"]), strict=True):
        if label >= 0:
            areas[int(label)] += int(mask.sum())
            numbers[int(label)] += 1
    objects = [_counted(str(classes[label]), numbers[label]) for label, _ in areas.most_common()]
    parts = np.bincount(semantic[semantic >= 0], minlength=len(classes)) / max(semantic.size, 1)
    stuff = [name for name, thing, part in zip(classes, is_thing, parts, strict=True) if not thing and part >= _LEAST]
    sentence = _joined(objects) or "nothing"
    if stuff:
        sentence += f" over {_joined(stuff)}"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _counted(name: str, number: int) -> str:
    if number == 1:
        return name if name in _AS_THEY_ARE else f"{'an' if name[0] in 'aeiou' and name != 'one' else 'a'} {name}"
    many = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    plural = "es" if name.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{many} {_PLURALS.get(name) or _ies(name) or name + plural}"


def _ies(name: str) -> str:
    """The plural of a word in -y after a consonant; "" of others."""
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2] not in "aeiou" else ""


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
