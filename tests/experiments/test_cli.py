"""The command as a user meets it: lists, helps, runs, and says what is wrong in one message."""

import importlib
import json

import pytest
from etude.lab import cli


def run(capsys, *arguments):
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_etude_alone_lists_every_experiment_with_a_line(capsys):
    code, text = run(capsys)
    assert code == 0
    for name in ("resnet", "lr_range_test", "prepare"):
        assert name in text
        assert cli.experiments()[name].rstrip(".")[:30] in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resent"], "Did you mean resnet?"),
        (["resnet", "--preset", "tiny"], "There is no preset 'tiny'. Valid are: smoke, demo, paper."),
        (["resnet", "--model", "resnet21"], "There is no model 'resnet21'"),
        (["resnet", "--data", "digit"], "digits"),
        (["resnet", "--data", "tfds:fashion_mnist", "--data-dir", "/nowhere"], "etude prepare tfds:fashion_mnist"),
        (["resnet", "--batch-size", "0"], "batch_size is 0"),
        (["resnet", "--accumulate", "0"], "accumulate is 0"),
        (["resnet", "--batch-size", "5000"], "only 1259 train examples"),
        (["resnet", "--epochs", "0", "--learning-rate", "0.1"], "epochs is 0; it must be at least 1"),
        (["resnet", "--mixup", "nan"], "mixup is nan; it must be finite"),
        (["resnet", "--seed", "-1"], "seed is -1; it must be at least 0"),
        (["resnet", "--seed", str(2**32)], "less than 2^32"),
        (["lr_range_test", "--lowest", "1", "--highest", "0.1"], "0 < lowest < highest"),
        (["prepare", "tfds:fashion_mnist", "--archives", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_ends_with_one_message_and_exit_code_2(capsys, tmp_path, arguments, message):
    out = [] if arguments[0] in ("prepare", "resent") else ["--out", str(tmp_path / "run")]
    data_dir = ["--data-dir", str(tmp_path)] if arguments[0] == "prepare" else []
    code, text = run(capsys, *arguments, *out, *data_dir)
    assert code == 2
    assert message in text
    assert "Traceback" not in text


def test_a_smoke_run_writes_its_result_and_figures_and_does_nothing_the_second_time(capsys, tmp_path):
    arguments = ["resnet", "--preset", "smoke", "--out", str(tmp_path / "run")]
    code, text = run(capsys, *arguments)
    assert code == 0, text
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"].keys() >= {
        "test_accuracy",
        "test_loss",
        "validation_accuracy",
        "train_loss",
        "learning_rate",
    }
    names = ["range_test", "learning_curves", "schedule", "predictions", "confusion_matrix", "worst_errors"]
    assert sorted(result["figures"]) == sorted(f"figures/{name}.png" for name in names)
    assert all((tmp_path / "run" / path).exists() for path in result["figures"])
    before = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    code, text = run(capsys, *arguments)
    assert code == 0
    assert "finished" in text
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == before


def test_a_range_test_by_name_writes_curve_and_figure(capsys, tmp_path):
    code, text = run(capsys, "lr_range_test", "--preset", "smoke", "--out", str(tmp_path / "run"))
    assert code == 0, text
    lines = (tmp_path / "run" / "range_test.csv").read_text().splitlines()
    assert lines[0] == "learning_rate,loss_seed0"
    assert (tmp_path / "run" / "figures" / "range_test.png").exists()


def test_an_arithmetic_mistake_of_our_own_is_a_defect_and_no_divergence(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("etude.experiments.resnet"), "main", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["resnet", "--out", str(tmp_path / "run")])
