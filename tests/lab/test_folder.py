"""A run's folder belongs to one config and one process."""

import json
import subprocess
import sys

import pytest
from etude import lab
from etude.errors import InputError


def opened(path, config):
    return lab.run_folder(path, config, lab.read_json)


def test_a_folder_gets_config_and_environment(tmp_path):
    with opened(tmp_path / "run", {"epochs": 3}) as folder:
        assert json.loads((folder / "config.json").read_text()) == {"epochs": 3}
        assert "jax" in json.loads((folder / "environment.json").read_text())["packages"]


def test_another_config_is_refused_with_what_differs(tmp_path):
    with opened(tmp_path, {"epochs": 3, "seed": 0}):
        pass
    with (
        pytest.raises(InputError, match="epochs 3 there, 4 here"),
        opened(tmp_path, {"epochs": 4, "seed": 0}),
    ):
        pass


def test_two_processes_cannot_hold_one_folder(tmp_path):
    code = f"""
from etude import lab
from pathlib import Path
try:
    with lab.run_folder(Path({str(tmp_path)!r}), {{}}, lab.read_json): print("entered")
except ValueError as error: print(error)
"""
    with opened(tmp_path, {}):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Another process is writing the run folder" in other.stdout
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "entered" in after.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/run can't be written.*--out"),
        opened(tmp_path / "file" / "run", {}),
    ):
        pass


def test_a_result_is_read_back_and_a_missing_one_is_none(tmp_path):
    assert lab.read_result(tmp_path) is None
    lab.write_json(tmp_path / "result.json", {"metrics": {"x": 1.5}})
    assert lab.read_result(tmp_path) == {"metrics": {"x": 1.5}}
