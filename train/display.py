"""What a person sees while something runs: lines that stay and, in a terminal, what moves below them.

A thin layer over rich, whose own thread moves the bar, also while the main thread compiles. A pipe, a log file or a
notebook gets the lines alone: no bar, no color, nothing wrapped.
"""

from __future__ import annotations

import datetime
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from ..errors import short_paths

QUIET_SECONDS = 30.0  # after which a log file gets a line of how far the steps are
SPEED_SECONDS = 600.0  # over which the speed is measured: several epochs with their validation, where they are short


def open_console() -> Console:
    """The terminal; or, where there is none, one that wraps nothing and has no colors, even if forced."""
    if sys.stdout.isatty():
        return Console()
    return Console(force_terminal=False, force_jupyter=False, width=10_000)


class Display:
    """Lines and, in a terminal, a bar or a status below them: one at a time."""

    def __init__(self, console: Console | None = None):
        """Makes a display, which shows nothing until it is told something.

        Args:
          console: where it is shown; None shows nothing.
        """
        self._console = console or Console(quiet=True)
        self._moves = self._console.is_interactive and not self._console.quiet
        self._bar: Progress | None = None
        self._status: Status | None = None
        self._spoke = time.monotonic()

    def say(self, message: str) -> None:
        """Prints a line that stays."""
        self._spoke = time.monotonic()
        self._console.print(short_paths(message), markup=False, highlight=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """Prints a table that stays."""
        self._console.print(table)

    def doing(self, what: str) -> None:
        """Says what takes long now: "compiling …"."""
        if not self._moves:
            self.say(what)
        self.note(what)

    def note(self, what: str) -> None:
        """Says what is done now, in a terminal alone; "" for nothing in particular."""
        if not self._moves:
            return
        if self._bar is not None:
            self._bar.update(TaskID(0), note=what)
        elif self._status is not None:
            self._status.update(Text(what))
        else:
            self._status = self._console.status(Text(what))
            self._status.start()
            self._console.show_cursor()  # which a process that is killed can't bring back

    def begin(self, title: str, step: int, total: int) -> None:
        """Begins a bar of `total` steps at `step`."""
        self.close()
        self._bar = Progress(
            _Cut("{task.description}", markup=False, table_column=Column()),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,} steps"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            _Cut("{task.fields[note]}", markup=False, table_column=Column()),
            console=self._console,
            speed_estimate_period=SPEED_SECONDS,
            disable=not self._moves,
        )
        self._bar.add_task(title, total=total, completed=step, note="")
        self._bar.start()
        self._console.show_cursor()

    def progress(self, step: int, note: str) -> None:
        """Moves the bar; where none is shown, says now and then how far it is."""
        if self._bar is None:
            return
        self._bar.update(TaskID(0), completed=step, note=note)
        if not self._moves and time.monotonic() - self._spoke >= QUIET_SECONDS:
            (task,) = self._bar.tasks
            left = "" if task.time_remaining is None else f", {_clock(task.time_remaining)} left"
            self.say(f"{task.description}: {task.completed:,}/{task.total:,} steps{left}, {note}")

    def extend(self, total: int) -> None:
        """Gives the bar another number of steps; one that is reached already ends it as finished."""
        if self._bar is not None:
            self._bar.update(TaskID(0), total=total)

    def close(self) -> None:
        """Leaves the bar where it is, and shows nothing more that moves. What is said later stays."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._bar is not None:
            (task,) = self._bar.tasks
            self._bar.stop()
            self._bar = None
            if not self._moves:
                self.say(f"{task.description}: {task.completed:,}/{task.total:,} steps in {_clock(task.elapsed or 0)}")

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=int(seconds)))


class _Cut(TextColumn):
    """Text of one line, which gives way to the numbers where there is no room for all."""

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text
