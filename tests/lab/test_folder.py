"""A run's folder belongs to one config and one process."""

import json
import subprocess
import sys

import pytest
from etude import lab
from etude.errors import InputError


def opened(path, config):
    return lab.run_folder(path, config, lab.read_json)


def reread(file):
    """The options of a config.json, as an experiment reads them."""
    return {name: value for name, value in lab.read_json(file).items() if name != "data_fingerprint"}


def test_a_folder_gets_config_and_environment(tmp_path):
    with opened(tmp_path / "run", {"epochs": 3}) as folder:
        assert json.loads((folder / "config.json").read_text()) == {"epochs": 3}
        assert "jax" in json.loads((folder / "environment.json").read_text())["packages"]


def test_a_start_that_goes_on_appends_its_environment_and_a_finished_run_is_not_touched(tmp_path):
    for _ in range(3):
        with opened(tmp_path, {}):
            pass
    content = json.loads((tmp_path / "environment.json").read_text())
    assert len(content["resumed"]) == 2
    assert content["resumed"][0]["packages"] == content["packages"]
    lab.write_json(tmp_path / "result.json", {"metrics": {}})
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file.name != "run.lock"}
    with opened(tmp_path, {}):
        pass
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir() if file.name != "run.lock"}


def fail(path, message, files):
    """A start of a run that writes files and fails by a user's mistake."""
    with opened(path, {}) as folder:
        (folder / "checkpoints").mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        raise InputError(message)


def test_a_first_start_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="bad option"):
        fail(tmp_path / "runs" / "deep" / "x", "bad option", {"metrics.jsonl": ""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", [1, 2])
def test_a_start_that_fails_keeps_what_was_trained(tmp_path, start):
    if start == 2:
        with opened(tmp_path / "run", {}):
            pass
    with pytest.raises(InputError, match="too late"):
        fail(tmp_path / "run", "too late", {"range_test.csv": "learning_rate\n1\n"} if start == 1 else {})
    assert (tmp_path / "run" / "config.json").exists()


def test_a_folder_with_other_files_is_refused_and_not_touched(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "schedule.png").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(figures\)"), opened(tmp_path, {}):
        pass
    assert [file.name for file in tmp_path.rglob("*")] == ["figures", "schedule.png"]


CONTENTS = {f"a/{i}.png": f"{i} bytes" for i in range(10)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"a/3.png": None}, r"1 removed \(a/3\.png\)"),
        ({"b.png": "1", "c.png": "1", "d.png": "1", "e.png": "1"}, r"4 added \(b\.png, c\.png, d\.png, …\)"),
        ({"a/3.png": "7 bytes", "z": "0"}, r"1 added \(z\); 1 changed \(a/3\.png\)"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_does_not_go_on_with_changed_data(tmp_path, changed, message, finished):
    with lab.run_folder(tmp_path, {}, lab.read_json, CONTENTS):
        pass
    if finished:
        lab.write_json(tmp_path / "result.json", {"metrics": {}})
    now = {name: content for name, content in (CONTENTS | changed).items() if content is not None}
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=message), lab.run_folder(tmp_path, {}, lab.read_json, now):
        pass
    with lab.run_folder(tmp_path, {}, lab.read_json, CONTENTS):
        pass


def test_of_many_files_the_folder_that_changed_is_named(tmp_path):
    many = {f"{label}/{i}.png": "1 bytes" for label in "ab" for i in range(6000)}
    with lab.run_folder(tmp_path, {}, lambda file: {}, many):
        pass
    assert len(json.loads((tmp_path / "data.json").read_text())) == 2
    with (
        pytest.raises(InputError, match=r"1 changed \(b\)"),
        lab.run_folder(tmp_path, {}, lambda file: {}, many | {"b/7.png": "2 bytes"}),
    ):
        pass


def test_the_fingerprint_in_the_config_is_that_of_the_data(tmp_path):
    prints = []
    for i, contents in enumerate((CONTENTS, dict(reversed(CONTENTS.items())), CONTENTS | {"x": "1"})):
        with lab.run_folder(tmp_path / str(i), {}, lab.read_json, contents) as folder:
            prints.append(json.loads((folder / "config.json").read_text())["data_fingerprint"])
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"metrics": 3}', "\udcff"])
def test_a_damaged_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"result\.json is damaged: .* Remove it, and the same command"):
        lab.read_result(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
@pytest.mark.parametrize("name", ["config.json", "environment.json", "data.json"])
def test_a_damaged_file_of_an_earlier_start_is_named_with_what_to_do(tmp_path, name, content):
    with lab.run_folder(tmp_path, {"epochs": 3}, reread, CONTENTS):
        pass
    (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(InputError, match=rf"{name} is damaged: .*(Remove it|--out)"),
        lab.run_folder(tmp_path, {"epochs": 3}, reread, CONTENTS),
    ):
        pass
    assert (tmp_path / name).read_bytes() == content


def test_without_data_json_the_fingerprint_still_tells_that_data_changed(tmp_path):
    config = {"epochs": 3}
    with lab.run_folder(tmp_path, config, reread, CONTENTS):
        pass
    (tmp_path / "data.json").unlink()
    with (
        pytest.raises(InputError, match=r"have changed since it began: 11 parts, .* where config\.json has 10 parts"),
        lab.run_folder(tmp_path, config, reread, CONTENTS | {"x": "1"}),
    ):
        pass
    with lab.run_folder(tmp_path, config, reread, CONTENTS):
        assert (tmp_path / "data.json").exists()


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
