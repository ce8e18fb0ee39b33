"""The records of a run in progress: a JSONL file, TensorBoard events, and what is shown of them (`display`).

The loop speaks through a journal alone. Its records are numbers on the host, already waited for, so that writing them
never touches a device. Of a population they are those of the median member. When a run resumes from a step, the records
after that step are cut off, so that the files of an interrupted run read like those of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, writing
from .display import Display

LOOK_SECONDS = 1.0  # between two looks whether the file is still there
MOST_LINES = 100  # of one training: of more epochs, every second, third, … has a line


class Journal:
    """Writes records to `metrics.jsonl` and TensorBoard in a folder, and progress to a display."""

    def __init__(
        self, folder: Path | None = None, *, display: Display | None = None, note: Callable[[str], None] | None = None
    ):
        """Opens a journal.

        Args:
          folder: receives `metrics.jsonl` and `tensorboard/`; None writes no files.
          display: shows the progress; None shows none.
          note: receives one sentence if records are gone; by default it is shown.
        """
        self.count = 0  # records in the file
        self._folder = folder
        self.display = display or Display()
        """What is shown of the run."""
        self._note = note or self.display.say
        self._file = None
        self._events = None
        self._looked = 0.0

    def begin(self, title: str, step: int, total_steps: int, count: int = 0) -> None:
        """Starts (or resumes) a run of `total_steps` at `step`; cuts off the records after it.

        Args:
          title: title of the progress bar.
          step: step that the run begins at.
          total_steps: number of steps of the whole run.
          count: number of records that there were at `step`. If some are gone, a note says so.
        """
        if self._folder is not None:
            path = self._folder / "metrics.jsonl"
            with writing(path):
                self.count = _keep_until(path, step)
                self._file = path.open("a", encoding="utf-8")
            if self.count < count:
                self._note(f"{path.name} lacks {count - self.count} of the {count} records up to step {step}.")
            from tensorboardX import SummaryWriter  # 0.3 s, not paid by a run without files

            self._events = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)
        self.display.begin(title, step, total_steps)

    def record(self, split: str, step: int, epoch: float, values: Mapping[str, np.ndarray]) -> None:
        """Writes the values [] or [members] measured after `step` steps, of split "train" or "validation"."""
        numbers = summary(values)
        if self._file is not None:
            line: dict[str, Any] = {"split": split, "step": step, "epoch": round(epoch, 6)}
            # JSON knows no NaN; null keeps the line readable by every tool.
            line |= {name: value if math.isfinite(value) else None for name, value in numbers.items()}
            with writing(self._file.name):
                self._file.write(json.dumps(line) + "\n")
            self.count += 1
            self._require_folder()
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(f"{name}/{split}", value, step)

    def end_epoch(self, epoch: Mapping[str, Any], epochs: int) -> None:
        """Writes the validation of an epoch's record and says how it went, in a line of its own or of a few epochs."""
        if epoch["validation"]:
            self.record("validation", epoch["step"], epoch["epoch"], epoch["validation"])
        self.display.note("")
        if epoch["epoch"] % -(-epochs // MOST_LINES) and epoch["epoch"] != epochs:
            return
        parts = [f"epoch {epoch['epoch']}/{epochs}"]
        for split in ("train", "validation"):
            shown = {name: value for name, value in epoch[split].items() if name in ("loss", "accuracy")}
            numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in summary(shown).items())
            parts += [f"{split} {numbers}"] if shown else []
        self.display.say(" · ".join(parts))

    def progress(self, step: int, loss: np.ndarray) -> None:
        """Moves the bar to `step`, with the loss [] or [members] beside it."""
        note = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in summary({"loss": loss}).items())
        if loss.shape:
            note += f" of {np.isfinite(loss).sum()}/{loss.size} members"
        self.display.progress(step, note)

    def flush(self) -> None:
        """Forces the records to disk. Called before a checkpoint, which stands for all records before it."""
        if self._file is not None:
            with writing(self._file.name):
                self._file.flush()
                os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()

    def _require_folder(self) -> None:
        """Raises InputError if the file was removed: what is written to it now would be lost."""
        assert self._file is not None
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            if not os.fstat(self._file.fileno()).st_nlink:
                raise InputError(f"{self._file.name} was removed while the run wrote it: nothing more can be kept.")

    def end(self) -> None:
        """Closes the files, and leaves the bar where it is."""
        self.display.close()
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None
        if self._events is not None:
            self._events.close()
            self._events = None


def summary(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """{name: number} of one run; of a population {name_median: the median of the members that are finite}."""
    found = {}
    for name, value in values.items():
        finite = np.asarray(value)[np.isfinite(value)]
        middle = float(np.median(finite)) if finite.size else math.nan
        found[f"{name}_median" if np.ndim(value) else name] = middle
    return found


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, in order; a half-written last line, of a run that was killed, is left out.

    Raises: InputError, which names the line, if another one is no record: those after it would be lost.
    """
    records = []
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                records.append(_record(line))
            except ValueError:
                if number < len(lines):
                    raise InputError(
                        f"{path} is damaged: line {number} is no record. Repair or remove that line, or move the file "
                        "away and the run goes on without the records before."
                    ) from None
    return records


def _record(line: str) -> dict[str, Any]:
    """A line as a record; raises ValueError if it is none."""
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError("no record")
    return record


def _keep_until(path: Path, step: int) -> int:
    """Cuts off the records after `step`, atomically; returns the number of those that stay."""
    kept = [record for record in read_journal(path) if record["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    partial.replace(path)
    return len(kept)
