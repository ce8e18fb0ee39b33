"""The frame of a run: where it may live, what it says of its data, and what it notes."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import lab, train
from etude.errors import InputError
from matplotlib.figure import Figure
from PIL import Image


@dataclass(frozen=True)
class Config:
    run: lab.RunOptions = lab.RunOptions()
    data: lab.DataOptions = lab.DataOptions()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    return lab.override(Config(), data=f"folder:{tmp_path / 'photos'}", name="photos")


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".", "", "a\\b", "a\nb", "x" * 201, "a\0b"])
def test_a_name_is_that_of_one_folder(tmp_path, name):
    with pytest.raises(InputError, match="must name one folder"), lab.open_run("e", lab.override(Config(), name=name)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_says_what_its_data_are(photographs, tmp_path, capsys):
    (tmp_path / "photos/cat/notes.txt").write_text("")
    with lab.open_run("e", photographs) as run:
        run.introduce(1234)
        run.introduce(1234)
        run.finish({}, {})
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("2 classes · ") == 1
    assert "test · 4×4×3 · " in said
    assert "1,234 parameters" in said
    assert " device" in said
    assert json.loads((run.folder / "result.json").read_text())["notes"] == [
        "Left out, since no images by their suffix: 1 file (1 .txt)."
    ]


def test_a_resume_on_changed_data_is_refused_with_what_changed(photographs, tmp_path):
    with lab.open_run("e", photographs):
        pass
    (tmp_path / "photos/cat/3.png").unlink()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos/dog/5.png")
    with (
        pytest.raises(InputError, match=r"1 removed \(cat/3\.png\); 1 changed \(dog/5\.png\)"),
        lab.open_run("e", photographs),
    ):
        pass


def test_data_that_are_not_there_claim_no_folder_but_a_finished_run_reports_without_them(photographs, tmp_path):
    missing = lab.override(photographs, data="folder:nowhere")
    with pytest.raises(InputError, match="no folder nowhere"), lab.open_run("e", missing):
        pass
    assert not (tmp_path / "runs").exists()
    with lab.open_run("e", photographs) as run:
        run.finish({"x": 1.0}, {})
    (tmp_path / "photos").rename(tmp_path / "gone")
    with lab.open_run("e", photographs) as run:
        assert run.result is not None
        assert run.result.metrics == {"x": 1.0}


def test_notes_of_every_start_stand_in_the_result_once(tmp_path):
    for sentence in ("first", "second", "first"):
        with lab.open_run("e", Config()) as run:
            run.note(sentence)
    with lab.open_run("e", Config()) as run:
        run.part("judge").note("third")
        result = run.finish({}, {}, classes={"cat": {"accuracy": 1.0}})
    assert result.notes == ("first", "second", "third")
    with lab.open_run("e", Config()) as run:
        assert run.result is not None
        assert (run.result.notes, run.result.classes) == (result.notes, result.classes)


def test_a_run_that_needs_more_memory_than_there_is_says_so_and_leaves_no_folder(tmp_path):
    def allocate() -> None:
        jax.jit(lambda: jnp.zeros((2**45,), jnp.float32))().block_until_ready()

    for fail in (allocate, lambda: np.zeros(2**55)):
        with (
            pytest.raises(InputError, match=r"needs more memory than there is \(.*allocat.*Give a smaller network"),
            lab.open_run("e", Config()),
        ):
            fail()
    assert not (tmp_path / "runs").exists()

    def another() -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"), lab.open_run("e", Config()):
        another()


def test_figures_replace_links_and_do_not_follow_them(tmp_path):
    (tmp_path / "mine.png").write_text("mine")
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "a.png").symlink_to(tmp_path / "mine.png")
    lab.save_figures({"a": Figure()}, folder)
    assert (tmp_path / "mine.png").read_text() == "mine"
    assert not (folder / "figures" / "a.png").is_symlink()
    (tmp_path / "other" / "x").mkdir(parents=True)
    (tmp_path / "other" / "figures").symlink_to(tmp_path / "other" / "x")
    with pytest.raises(InputError, match="figures is a link"):
        lab.save_figures({"a": Figure()}, tmp_path / "other")
    assert not list((tmp_path / "other" / "x").iterdir())


WAITS = """
'''Waits.'''
import signal, sys, time
from dataclasses import dataclass
from etude import lab

@dataclass(frozen=True)
class Config:
    run: lab.RunOptions = lab.RunOptions()

def main(config):
    with lab.open_run("waits", config) as run:
        (run.folder / "checkpoints" / "7").mkdir(parents=True)
        print("ready", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    # A suite that runs in the background ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(lab.command(__doc__, Config, main))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_training_ends_with_what_is_kept(tmp_path, number):
    (tmp_path / "waits.py").write_text(WAITS)
    process = subprocess.Popen(
        [sys.executable, "waits.py", "--name", "r"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "runs/waits/r keeps the checkpoint of step 7. The same command goes on from there." in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("content", "message"),
    [("learning_rate,loss_seed0\n0.1,oops\n0.2,1\n", "loss_seed0 is 'oops' in line 2"), ("", "it has no rows")],
)
def test_a_damaged_range_test_of_an_earlier_start_is_named(tmp_path, content, message):
    (tmp_path / "range_test.csv").write_text(content)
    run = lab.Run(tmp_path, train.Display(), None)
    training: Any = None  # the file is there, so that nothing trains
    with pytest.raises(InputError, match=rf"range_test\.csv is damaged: {message}"):
        lab.range_test(run, training, lab.RangeTestOptions())


def test_the_range_test_of_an_earlier_start_is_read_again(tmp_path):
    rates, losses = np.array([0.1, 0.2]), np.array([[1.5, 2.5], [np.nan, 0.25]])
    lab.write_csv(tmp_path / "range_test.csv", ["learning_rate", "a", "b"], np.column_stack([rates, losses]))
    training: Any = None
    found = lab.range_test(lab.Run(tmp_path, train.Display(), None), training, lab.RangeTestOptions())
    np.testing.assert_array_equal(found[0], rates)
    np.testing.assert_array_equal(found[1], losses)


def test_it_is_shown_how_many_files_were_checked_and_one_short_path_a_line(photographs, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(train.Display, "note", lambda self, what: shown.append(what))
    with lab.open_run("e", photographs) as run:
        run.finish({"test_accuracy": 0.5}, {"curves": Figure()}, [lab.Claim("c", 0.25, "< 1", True)])
    name = photographs.data.data
    assert {f"checking {name} … 1/24 files", f"checking {name} … 24/24 files", "drawing …"} <= set(shown)
    assert capsys.readouterr().out.splitlines() == [
        "test_accuracy  0.5",
        "c              0.25 (target < 1: holds)",
        "wrote runs/e/photos/result.json",
        "wrote runs/e/photos/figures/curves.png",
    ]
