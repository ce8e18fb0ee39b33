"""What a person sees while something runs: in a terminal, in a pipe, and where it ends."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from etude import train
from rich.console import Console


def pipe():
    """A display on a pipe, and what it printed."""
    out = io.StringIO()
    return train.Display(Console(file=out, width=200)), out


def terminal(width=100):
    """A display on a terminal without colors, and what it printed."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, force_interactive=True, color_system=None)
    return train.Display(console), out


def last_line(out):
    """The last line, as a terminal shows it: after the control characters that clear what was there before."""
    return re.split(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n", re.sub(r"(\s|\x1b\[\?25[hl])+$", "", out.getvalue()))[-1]


both = pytest.mark.parametrize("show", [pipe, terminal])


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("title", ["range test", "vit_base_patch16_224 on tfds:some_long_name"])
def test_a_bar_is_one_line_with_its_numbers_whole(width, title):
    display, out = terminal(width)
    display.begin(title, 0, 12_000)
    display.progress(1, "")
    display.progress(4000, "")
    display.note("compiling the validation … [of photos[1]]")
    display.close()
    line = last_line(out)
    assert len(line) <= width
    assert re.match(rf"{title[:3]}\S*.* ━.* 4,000/12,000 steps 0:00:0\d 0:00:0\d left c", line)
    assert width < 200 or line.endswith("[of photos[1]]")


@both
def test_an_interrupted_bar_stays_where_it_is(show):
    display, out = show()
    with display:
        display.begin("run", 0, 61)
        display.progress(10, "")
    assert re.match(r"run.* 10/61 steps ", last_line(out))


def test_a_pipe_is_told_now_and_then_how_far_the_steps_are(monkeypatch):
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr("etude.train.display.time.monotonic", lambda: next(seconds))
    display, out = pipe()
    display.begin("range test", 0, 180)
    for step in range(10):
        display.progress(step, "loss 1.000")
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 4
    assert all(re.fullmatch(r"range test: \d/180 steps(, \d:\d\d:\d\d left)?, loss 1\.000", line) for line in lines)


def losses_of(falling, diverging):
    """A feed whose losses fall for some steps and then rise without end."""

    def advance(placed, first, count):
        steps = first + np.arange(count)
        losses = np.where(steps < falling, 3 - 2 * steps / falling, np.inf if diverging else 1.0)
        return placed, lambda: {"loss": SimpleNamespace(value=losses)}

    return SimpleNamespace(advance=advance, most=10, steps_per_epoch=100)


@both
@pytest.mark.parametrize(("diverging", "further", "steps"), [(True, 0, 40), (False, 0, 60), (False, 30, 90)])
def test_the_bar_of_a_range_test_ends_finished(show, diverging, further, steps):
    display, out = show()
    left, journal = [further, 0], train.Journal(display=display)
    losses = train.sweep(None, losses_of(30, diverging), steps=60, further=lambda losses: left.pop(0), journal=journal)
    assert len(losses) == steps
    assert re.match(rf"range test.* {steps}/{steps} steps ", last_line(out))
    assert ("the loss has diverged" in out.getvalue()) == diverging


@pytest.mark.parametrize(("epochs", "lines"), [(100, 100), (1000, 100), (1001, 91), (7, 7)])
def test_of_very_many_epochs_a_hundred_have_a_line_and_the_last_has(epochs, lines):
    display, out = pipe()
    journal = train.Journal(display=display)
    for epoch in range(1, epochs + 1):
        journal.end_epoch({"epoch": epoch, "step": epoch, "train": {"loss": np.float64(1)}, "validation": {}}, epochs)
    said = out.getvalue().splitlines()
    assert len(said) == lines
    assert said[-1] == f"epoch {epochs}/{epochs} · train loss 1.0000"


def test_a_message_keeps_its_brackets_and_its_length():
    display, out = pipe()
    message = "photos[1]/cat.jpg can't be read " * 20
    display.say(message)
    assert out.getvalue() == message + "\n"


PROGRAM = """
import os, signal, sys, time
from etude import train
from rich.table import Table
display = train.Display(train.open_console())
with display:
    display.note("setting up [a] …")
    display.begin("resnet8 on digits", 0, 10)
    display.doing("compiling the training step …")
    time.sleep(0.3)
    for step in (4, 8):
        display.progress(step, "loss 1.000")
        time.sleep(0.1)
    display.say(f"epoch 1/1")
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    display.extend(8)
    display.close()
    display.note("drawing …")
    time.sleep(0.3)
table = Table("class " * 30, "probability", box=None)
table.add_row("cat " * 30, "0.5")
display.show(table)
display.say(f"wrote {os.getcwd()}/runs/{'x' * 90}/result.json")
"""


def in_a_terminal(*arguments):
    """What PROGRAM writes into a terminal of 100 columns, and how it ended."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm-256color"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        found = b""
        try:
            while part := os.read(ours, 65536):
                found += part
        except OSError:  # Linux tells so that the other end was closed
            pass
        os.close(ours)
    return found.decode(), process.returncode


def test_a_terminal_shows_what_takes_long_and_keeps_a_finished_bar():
    written, code = in_a_terminal()
    assert code == 0
    written = re.sub(r"\x1b\[[0-9;]*m", "", written)
    for what in ("setting up [a] …", "0/10 steps 0:00:00 -:--:-- left compiling the", "drawing …"):
        assert what in written
    assert re.search(r"8/8 steps 0:00:0\d 0:00:00 left loss 1.000", written)
    assert f"wrote runs/{'x' * 90}/result.json\r\n" in written


def test_the_cursor_is_there_after_a_kill():
    written, code = in_a_terminal("kill")
    assert code == -signal.SIGKILL
    assert re.findall(r"\x1b\[\?25[hl]", written)[-1] == "\x1b[?25h"


def test_a_pipe_gets_whole_lines_without_control_characters_even_where_colors_are_forced():
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "40"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert not set("\x1b\r━") & set(ended.stdout + ended.stderr)
    assert re.sub(r"0:00:0\d", "0:00:0x", "\n".join(lines[:3])).splitlines() == [
        "compiling the training step …",
        "epoch 1/1",
        "resnet8 on digits: 8/8 steps in 0:00:0x",
    ]
    assert [line.split()[0] for line in lines[3:]] == ["class", "cat", "wrote"]
    assert lines[-1] == f"wrote runs/{'x' * 90}/result.json"
