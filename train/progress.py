"""What the loop must remember beside the state: it goes into each checkpoint's record and comes back.

Everything is per member: arrays have the shape of the layout, () for one run and [members] for a population.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..tasks import Mean


class Progress:
    """The epochs so far, the running sums of the present one, the best score, and who ended how."""

    def __init__(self, shape: tuple[int, ...]):
        self.step = 0  # up to which metrics were added
        self.epochs: list[dict[str, Any]] = []
        self.best_epoch = np.zeros(shape, np.int64)
        self.diverged_at = np.full(shape, -1, np.int64)
        self.stopped_early = np.zeros(shape, bool)
        self._score: np.ndarray | None = None  # [parts, *shape]
        self._sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of the epoch: name -> (total, weight)

    @classmethod
    def of_record(cls, shape: tuple[int, ...], record: Mapping[str, Any]) -> Progress:
        """The progress that `record` described; a new one for {}."""
        progress = cls(shape)
        if record:
            progress.step = record["step"]
            progress.epochs = [_map_numbers(np.asarray, epoch) for epoch in record["epochs"]]
            progress.best_epoch = np.asarray(record["best_epoch"], np.int64)
            progress.diverged_at = np.asarray(record["diverged_at"], np.int64)
            progress.stopped_early = np.asarray(record["stopped_early"], bool)
            progress._score = None if record["score"] is None else np.asarray(record["score"], np.float64)
            progress._sums = {
                name: (np.asarray(total, np.float64), np.asarray(weight, np.float64))
                for name, (total, weight) in record["sums"].items()
            }
        return progress

    def record(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "step": self.step,
            "epochs": [_map_numbers(lambda x: np.asarray(x).tolist(), epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch.tolist(),
            "diverged_at": self.diverged_at.tolist(),
            "stopped_early": self.stopped_early.tolist(),
            "score": None if self._score is None else self._score.tolist(),
            "sums": {name: [total.tolist(), weight.tolist()] for name, (total, weight) in self._sums.items()},
        }

    @property
    def ended(self) -> np.ndarray:
        """bool [*shape]: who takes no more steps."""
        return (self.diverged_at >= 0) | self.stopped_early

    @property
    def none_left(self) -> bool:
        """Whether every member diverged."""
        return bool((self.diverged_at >= 0).all())

    def add(self, first: int, rows: Mapping[str, Mean]) -> None:
        """Adds the metrics [count, *shape] of the steps from `first` on, one by one, so that grouping changes no
        bit."""
        finite = np.isfinite(rows["loss"].total) & np.isfinite(rows["gradient_norm"].total)
        for i, here in enumerate(finite):
            self.diverge(first + i, ~here)
            for name, mean in rows.items():
                one = np.asarray(mean.total[i], np.float64), np.asarray(mean.weight[i], np.float64)
                total, weight = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = np.asarray(total + one[0]), np.asarray(weight + one[1])
        self.step = first + len(finite)

    def diverge(self, step: int, chosen: np.ndarray) -> None:
        """Notes that the chosen members, if they still ran, could not take this step."""
        self.diverged_at = np.where(chosen & ~self.ended, step, self.diverged_at)

    def end_epoch(
        self, step: int, per_epoch: int, validation: Mapping[str, Any], better: Callable, patience: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Closes an epoch: (who is better than ever before, whose patience ran out), bool [*shape] each."""
        ended, number = self.ended, step // per_epoch
        with np.errstate(invalid="ignore"):
            train = {name: np.asarray(total / weight) for name, (total, weight) in self._sums.items()}
        validation = {name: np.where(ended, np.nan, value) for name, value in validation.items()}
        self._sums = {}
        self.epochs.append({"epoch": number, "step": step, "train": train, "validation": validation})
        improved = np.zeros(ended.shape, bool)
        if validation:
            score = np.stack([np.broadcast_to(np.asarray(p, np.float64), ended.shape) for p in better(validation)])
            improved = np.isfinite(score).all(0) & _greater(score, self._score)
            self._score = np.where(improved, score, -np.inf if self._score is None else self._score)
            self.best_epoch = np.where(improved, number, self.best_epoch)
        tired = np.zeros(ended.shape, bool)
        if patience is not None:
            tired = ~ended & (self.best_epoch > 0) & (number - self.best_epoch >= patience)
        self.stopped_early = self.stopped_early | tired
        return improved, tired


def _greater(now: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Whether scores [parts, *shape] are greater, compared from the first part on."""
    if before is None:
        return np.ones(now.shape[1:], bool)
    greater, equal = np.zeros(now.shape[1:], bool), np.ones(now.shape[1:], bool)
    for a, b in zip(now, before, strict=True):
        greater |= equal & (a > b)
        equal &= a == b
    return greater


def _map_numbers(function: Callable, epoch: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's record with a function applied to each of its metrics."""
    splits = {
        split: {name: function(values) for name, values in epoch[split].items()} for split in ("train", "validation")
    }
    return dict(epoch) | splits
