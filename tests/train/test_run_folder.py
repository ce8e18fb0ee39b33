"""A run's folder belongs to one config and one process."""

import json
import subprocess
import sys

import pytest
from etude import train


def test_a_folder_gets_config_and_environment(tmp_path):
    with train.run_folder(tmp_path / "run", {"epochs": 3}) as folder:
        assert json.loads((folder / "config.json").read_text()) == {"epochs": 3}
        assert "jax" in json.loads((folder / "environment.json").read_text())["packages"]


def test_another_config_is_refused_with_what_differs(tmp_path):
    with train.run_folder(tmp_path, {"epochs": 3, "seed": 0}):
        pass
    with (
        pytest.raises(ValueError, match="epochs 3 there, 4 here"),
        train.run_folder(tmp_path, {"epochs": 4, "seed": 0}),
    ):
        pass


def test_two_processes_cannot_hold_one_folder(tmp_path):
    code = f"""
from etude import train
try:
    with train.run_folder({str(tmp_path)!r}, {{}}): print("entered")
except ValueError as error: print(error)
"""
    with train.run_folder(tmp_path, {}):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Another process is writing the run folder" in other.stdout
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "entered" in after.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match=r"file/run can't be written.*--out"),
        train.run_folder(tmp_path / "file" / "run", {}),
    ):
        pass


def test_a_result_is_read_back_and_a_missing_one_is_none(tmp_path):
    assert train.read_result(tmp_path) is None
    train.write_json(tmp_path / "result.json", {"metrics": {"x": 1.5}})
    assert train.read_result(tmp_path) == {"metrics": {"x": 1.5}}


def test_a_journal_cuts_off_what_came_after_the_step_it_resumes_from(tmp_path):
    journal = train.Journal(tmp_path)
    journal.begin("run", 0, 10)
    for step in range(1, 6):
        journal.record("train", step, step / 10, {"loss": float("nan") if step == 2 else 1.0})
    journal.end()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"split": "train", "st')  # a killed run's last write
    journal.begin("run", 3, 10)
    journal.record("train", 4, 0.4, {"loss": 4.0})
    journal.end()
    records = train.read_journal(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in records] == [(1, 1.0), (2, None), (3, 1.0), (4, 4.0)]
