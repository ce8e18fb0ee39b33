"""Runs of any experiments are compared by what their folders hold; what is wrong with one is said, and no more."""

import json

import numpy as np
import pytest
from etude import plots
from etude.experiments import compare_runs
from etude.lab import cli


def make_run(folder, config, metrics=None, curve=(), medians=False):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if metrics is not None:
        (folder / "result.json").write_text(json.dumps({"metrics": metrics, "claims": [], "figures": []}))
    end = "_median" if medians else ""
    lines = [
        {"split": "validation", "step": 3 * i, "epoch": i, f"loss{end}": loss, f"accuracy{end}": loss and 1 - loss / 3}
        for i, loss in enumerate(curve, 1)
    ]
    lines.insert(0, {"split": "train", "step": 1, "epoch": 0.3, "loss": 9.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def runs(tmp_path):
    one = {"experiment": "resnet", "preset": "demo", "epochs": 2, "model": "resnet8"}
    other = {"experiment": "vit", "preset": "demo", "epochs": 3, "drop_path": 0.1, "model": "resnet8"}
    return [
        make_run(tmp_path / "resnet" / "a", one, {"test_accuracy": 0.9, "epochs": 2}, (2.0, 1.0)),
        make_run(tmp_path / "vit" / "_a$b", other, {"test_accuracy": 0.8}, (2.5, 1.5, None), medians=True),
    ]


def compare(capsys, *arguments):
    code = cli.main(["compare_runs", *(str(each) for each in arguments)])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_options_that_differ_and_all_numbers_stand_side_by_side(runs, tmp_path, capsys):
    code, text = compare(capsys, *runs)
    assert code == 0
    assert "option a _a$b experiment resnet vit epochs 2 3 drop_path – 0.1" in text
    assert "model" not in text.replace("experiment", "")
    assert "preset" not in text
    assert "result a _a$b test_accuracy 0.9 0.8 epochs 2" in text
    assert (tmp_path / "resnet" / "comparison.png").exists()
    assert (tmp_path / "resnet" / "comparison.pdf").exists()


def test_the_figure_has_a_line_for_each_run_with_its_own_name_dashes_and_values(runs):
    read = [compare_runs.read(run, run.name) for run in runs]
    figure = plots.compared_curves({"loss": {run.name: run.curves["loss"] for run in read}})
    one, other = figure.axes[0].lines
    np.testing.assert_array_equal(one.get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_array_equal(other.get_xydata(), [[1, 2.5], [2, 1.5]])
    assert one.get_linestyle() != other.get_linestyle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [" a", r" _a\$b"]


def test_names_are_as_long_as_they_must_be(tmp_path):
    paths = [tmp_path / "resnet" / "demo", tmp_path / "vit" / "demo"]
    assert compare_runs.names(paths) == ["resnet/demo", "vit/demo"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", None, "is not finished: it has no result.json yet"),
        ("result.json", "{", "result.json is damaged"),
        ("metrics.jsonl", "rubbish\n{}\n", "metrics.jsonl is damaged: line 1 is no record"),
    ],
)
def test_what_is_missing_or_damaged_of_a_run_is_noted_and_the_rest_is_compared(file, content, message, runs, capsys):
    (runs[1] / file).unlink()
    if content is not None:
        (runs[1] / file).write_text(content)
    code, text = compare(capsys, *runs)
    assert code == 0
    assert message in text
    assert "epochs 2 3" in text
    assert "wrote" in text


def test_runs_without_curves_have_no_figure(tmp_path, capsys):
    runs = [make_run(tmp_path / name, {"experiment": "x"}, {"a": 1.0}) for name in "ab"]
    code, text = compare(capsys, *runs)
    assert code == 0
    assert "Their options are the same." in text
    assert "there is no figure" in text
    assert not list(tmp_path.glob("comparison*"))


def test_what_can_not_be_compared_is_refused_with_one_message(runs, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("[")
    for arguments, message in [
        (runs[:1], "Two to 6 runs are compared; given"),
        ([], "Two to 6 runs are compared"),
        ([runs[0], runs[0]], "was given twice"),
        ([runs[0], tmp_path / "nothing"], "There is no run"),
        ([runs[0], tmp_path / "vit"], "It holds runs; name them:"),
        ([runs[0], tmp_path / "damaged"], "config.json is damaged"),
        ([*runs, "--out", runs[0] / "config.json"], "can't be written"),
    ]:
        code, text = compare(capsys, *arguments)
        assert (code, message in text) == (2, True), (arguments, text)
        assert "Traceback" not in text
