"""What a run tells while it goes on: a JSONL file, TensorBoard events and a progress bar.

A journal is the loop's only way to be heard. Its records are plain numbers on the host, already waited for;
writing them never touches a device. When a run resumes from a step, what was written after that step is cut off,
so that the files of an interrupted run read like those of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Journal:
    """Writes records to `metrics.jsonl` and TensorBoard in a folder, and progress to the terminal."""

    def __init__(self, folder: Path | None = None, *, console: Console | None = None):
        """Opens a journal.

        Args:
          folder: gets `metrics.jsonl` and `tensorboard/`; None writes no files.
          console: where progress goes; None shows none.
        """
        self._folder = folder
        self._console = console
        self._file = None
        self._events = None
        self._progress: Progress | None = None
        self._bar = None

    def say(self, message: str) -> None:
        """One line for the person who watches."""
        if self._console is not None:
            self._console.print(message, highlight=False, soft_wrap=True)

    def begin(self, title: str, step: int, total_steps: int) -> None:
        """Starts (or resumes) a run of `total_steps` at `step`; cuts off what was written after it."""
        if self._folder is not None:
            path = self._folder / "metrics.jsonl"
            _keep_until(path, step)
            self._file = path.open("a", encoding="utf-8")
            from tensorboardX import SummaryWriter  # 0.3 s, not paid by a run without files

            self._events = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)
        if self._console is not None and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._progress.start()
            self._bar = self._progress.add_task(title, total=total_steps, completed=step, note="")

    def record(self, split: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Writes the values measured after `step` steps, of split "train" or "validation"."""
        if self._file is not None:
            line: dict[str, Any] = {"split": split, "step": step, "epoch": round(epoch, 6)}
            # JSON knows no NaN; null keeps the line readable by every tool.
            line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
            self._file.write(json.dumps(line) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{name}/{split}", value, step)

    def progress(self, step: int, note: str) -> None:
        """Moves the bar to `step`."""
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=step, note=note)

    def flush(self) -> None:
        """Puts on disk what was recorded: called before a checkpoint, which stands for all records before it."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()

    def end(self) -> None:
        """Closes the files and the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None
        if self._events is not None:
            self._events.close()
            self._events = None


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, in order; a half-written last line is left out."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break  # a killed run's last write
    return records


def _keep_until(path: Path, step: int) -> None:
    """Cuts off the records after `step`, atomically."""
    kept = [record for record in read_journal(path) if record["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    partial.replace(path)
