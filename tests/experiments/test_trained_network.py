"""A trained network is used: to classify, to export, to fine-tune; and one message says where that can't be."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etude import lab, models
from etude.experiments import classify
from etude.lab import cli
from etude.lab.saved_network import FILE
from etude.models import pretrained
from safetensors.numpy import load_file, save_file

MINIMAL = ["--preset", "smoke", "--learning-rate", "0.05", "--epochs", "1", "--batch-size", "24"]


def run(capsys, *arguments):
    code = cli.main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, few_digits):
    """A finished run of a small residual network."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["resnet", *MINIMAL, "--model", "resnet8", "--data", few_digits, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(trained):
    file = trained.parent / "digits.safetensors"
    assert cli.main(["export", str(trained), str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory, few_digits):
    """The name of a data set of three of the digits."""
    folder = tmp_path_factory.mktemp("three")
    for label in ("3", "5", "8"):
        shutil.copytree(Path(few_digits.removeprefix("folder:")) / label, folder / label)
    return f"folder:{folder}"


def files_of_test_split(few_digits):
    """(files, labels) of the test split."""
    source = lab.load(lab.DataOptions(few_digits), "test")
    files = [file for file, _ in source.records.files]
    return files, [source.classes[source[i]["label"]] for i in range(len(source))]


def test_images_are_classified_as_the_run_measured_itself(trained, few_digits):
    files, labels = files_of_test_split(few_digits)
    told = classify.main(classify.Config(tuple(files), run=trained, top=1))
    accuracy = np.mean([row[0][0] == label for row, label in zip(told, labels, strict=True)])
    assert accuracy == pytest.approx(lab.read_result(trained)["metrics"]["test_accuracy"])
    assert accuracy > 0.3


def test_an_exported_file_classifies_as_the_run_does_and_reads_in_torchs_names(trained, exported, few_digits):
    files, _ = files_of_test_split(few_digits)
    by_run = classify.main(classify.Config(tuple(files[:3]), run=trained))
    by_file = classify.main(classify.Config(tuple(files[:3]), weights=exported))
    assert by_file == by_run
    assert {"conv1.weight", "layer1.0.conv1.weight", "fc.bias"} <= load_file(exported).keys()
    metadata = pretrained.read_metadata(exported)
    assert json.loads(metadata["classes"]) == [str(i) for i in range(10)]
    assert len(json.loads(metadata["mean"])) == len(json.loads(metadata["std"])) == 1
    assert (metadata["model"], metadata["format"]) == ("resnet8", "pt")


@pytest.mark.parametrize("what", ["run", "file"])
def test_a_frozen_network_learns_a_new_head_and_nothing_else(what, trained, exported, three_classes, tmp_path, capsys):
    weights = trained if what == "run" else exported
    options = ["--weights", weights, "--freeze", "--data", three_classes, "--out", tmp_path / "run"]
    code, text = run(capsys, "resnet", *MINIMAL, "--weight-decay", "0.1", *options)
    assert code == 0
    assert "74,352 of 74,547 parameters are loaded, the head is new" in text
    assert "(10 in the weights)" in text
    counts = lab.read_result(tmp_path / "run")["metrics"]
    assert (counts["parameters_loaded"], counts["parameters_initialized"]) == (74352, 195)
    assert counts["parameters_trained"] == 195
    before, after = lab.load_network(trained), lab.load_network(tmp_path / "run")
    assert after.saved.classes == ("3", "5", "8")
    assert (after.saved.mean, after.saved.std) == (before.saved.mean, before.saved.std)
    for part in ("params", "batch_stats"):
        own, others = (dict(found.variables[part]) for found in (after, before))
        head = own.pop("fc", None), others.pop("fc", None)
        assert head[0] is None or head[0]["kernel"].shape == (64, 3)
        jax.tree.map(np.testing.assert_array_equal, own, others)


def test_the_whole_network_begins_where_it_ended_if_the_classes_are_as_many(trained, few_digits, tmp_path, capsys):
    options = ["--weights", trained, "--data", few_digits, "--out", tmp_path / "run", "--learning-rate", "1e-12"]
    code, text = run(capsys, "resnet", *MINIMAL, *options)
    assert code == 0
    assert "75,002 of 75,002 parameters are loaded, the head too" in text
    before, after = (lab.load_network(folder).variables["params"] for folder in (trained, tmp_path / "run"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-9), before, after)
    assert lab.read_result(tmp_path / "run")["metrics"]["parameters_initialized"] == 0


def test_the_best_member_of_a_population_is_used_and_named(few_digits, tmp_path, capsys):
    rates = ["--population.learning-rate", "1e-9,0.05", "--population.mode", "map"]
    options = ["--model", "linear", "--data", few_digits, "--out", tmp_path / "run", *rates]
    minimal = [each for each in MINIMAL if each not in ("--learning-rate", "0.05")]
    assert run(capsys, "resnet", *minimal, *options)[0] == 0
    files, _ = files_of_test_split(few_digits)
    code, text = run(capsys, "classify", files[0], "--run", tmp_path / "run")
    assert code == 0
    assert "member 2 of 2, with the best validation: seed 0" in text
    table = lab.read_csv(tmp_path / "run" / "members.csv")
    assert table["best_validation_accuracy"][1] > table["best_validation_accuracy"][0]


def test_a_network_of_ones_own_is_used_from_its_folder_and_refused_elsewhere(few_digits, tmp_path, monkeypatch, capsys):
    text = "from etude import models\ndef tiny():\n    return models.MLP(hidden=(5,))\n"
    (tmp_path / "used_models.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    options = ["--model", "used_models:tiny", "--data", few_digits, "--out", tmp_path / "run"]
    assert run(capsys, "resnet", *MINIMAL, *options)[0] == 0
    files, _ = files_of_test_split(few_digits)
    assert run(capsys, "classify", files[0], "--run", tmp_path / "run")[0] == 0
    assert run(capsys, "export", tmp_path / "run", "own.safetensors")[0] == 0
    assert "params.hidden1.kernel" in load_file("own.safetensors")
    # A file imports nothing unless its user says so.
    code, text = run(capsys, "classify", files[0], "--weights", "own.safetensors")
    assert (code, "name it with --model to import it" in text) == (2, True)
    assert run(capsys, "classify", files[0], "--weights", "own.safetensors", "--model", "used_models:tiny")[0] == 0
    # Another network under that name, and none.
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.delitem(__import__("sys").modules, "used_models")
    code, text = run(capsys, "classify", files[0], "--run", tmp_path / "run")
    assert (code, "There is no module 'used_models'" in text) == (2, True)


def damaged(trained, tmp_path, change):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    change(folder)
    return folder


def flip(folder):
    file = max((path for path in (folder / "checkpoints").rglob("*") if path.is_file()), key=lambda x: x.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def without(name):
    return lambda folder: (folder / name).unlink()


def with_json(**changes):
    def change(folder):
        file = folder / FILE
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("result.json"), "is not finished"),
        (with_json(trained={}), "is not finished"),
        (without(FILE), "holds no network to be used"),
        (lambda folder: (folder / FILE).write_text("{"), "is damaged: it is no JSON"),
        (with_json(classes=[]), "it says no classes"),
        (with_json(std=[0.0]), "it says no std"),
        (with_json(mean=[0.1, 0.2]), "mean and std must be of 1 channel"),
        (with_json(trained={"step": "1", "seeds": []}), "does not say which checkpoint counts"),
        (with_json(model="resnet7"), "There is no model 'resnet7'"),
        (with_json(model="linear", fields={}), "another one than linear is now"),
        (with_json(fields={"depth": 3}), "has no field depth now"),
        (with_json(fields={"block": {"not kept": "<function>"}}), "which no file can hold"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "There is no checkpoint of step"),
        (flip, "The checkpoint of step"),
        (shutil.rmtree, "There is no run"),
    ],
)
def test_a_run_that_can_not_be_used_is_refused_and_stays_as_it_is(change, message, trained, tmp_path, capsys):
    folder = damaged(trained, tmp_path, change)
    before = sorted(folder.rglob("*"))
    code, text = run(capsys, "export", folder, tmp_path / "out.safetensors")
    assert code == 2
    assert message in text
    assert "Traceback" not in text
    assert sorted(folder.rglob("*")) == before


def test_what_a_run_fell_back_on_stands_in_its_result(trained, few_digits, tmp_path, capsys):
    folder = damaged(trained, tmp_path, flip)
    (folder / "result.json").unlink()
    (folder / "metrics.jsonl").write_text("")
    command = ["resnet", *MINIMAL, "--model", "resnet8", "--data", few_digits, "--out", folder]
    assert run(capsys, *command)[0] == 0
    result, before = lab.read_result(folder), lab.read_result(trained)
    assert result["metrics"] == before["metrics"]
    (note,) = result["notes"]
    assert "The checkpoint of step" in note
    assert "is damaged" in note
    assert not before.get("notes")


def test_what_is_wrong_with_the_question_comes_out_first(trained, exported, few_digits, tmp_path, capsys):
    image = files_of_test_split(few_digits)[0][0]
    questions = [
        (["classify", image], "Give either --run"),
        (["classify", image, "--run", trained, "--weights", exported], "Give either --run"),
        (["classify", "--run", trained], "There is no image to classify"),
        (["classify", tmp_path / "no.png", "--run", trained], "no.png does not exist"),
        (["classify", image, "--run", trained, "--size", "8"], "leave --size out"),
        (["classify", image, "--run", trained, "--model", "mlp"], "leave --model out"),
        (["classify", image, "--run", trained.parent], f"name one of its folders: {trained}"),
        (["classify", image, "--run", tmp_path], "holds no network to be used"),
        (["export", trained, tmp_path / "a.pth"], "must end with .safetensors"),
        (["export", trained, tmp_path / "no" / "a.safetensors"], "There is no folder"),
        (["resnet", "--freeze"], "freeze keeps what --weights loaded"),
        (["resnet", "--freeze", "--weights", exported, "--dropout", "0.1"], "A frozen network drops nothing"),
        (["resnet", "--weights", exported, "--model", "resnet14"], "give --model resnet8"),
        (["resnet", "--weights", tmp_path / "no.safetensors"], "There is no file of weights"),
    ]
    for number, (arguments, message) in enumerate(questions):
        out = ["--out", tmp_path / f"run{number}"] if arguments[0] == "resnet" else []
        code, text = run(capsys, *arguments, *out)
        assert (code, message in text) == (2, True), (arguments, text)


def test_weights_for_other_channels_are_refused_by_their_number(few_digits, tmp_path, capsys):
    model = models.create("resnet8", num_classes=7)
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), pretrained.template(model, (8, 8, 3)))
    pretrained.save(model, variables, tmp_path / "colored.safetensors")
    options = ["--data", few_digits, "--weights", tmp_path / "colored.safetensors", "--out", tmp_path / "run"]
    code, text = run(capsys, "resnet", *options)
    assert code == 2
    assert "The weights are for images of 3 channels; these images have 1." in text


def test_a_run_does_not_go_on_with_weights_that_changed(trained, tmp_path):
    saved = dataclasses.replace(lab.load_network(trained).saved, weights={"path": "x", "digest": "1"}, trained={})
    saved.write(tmp_path)
    saved.write(tmp_path)
    for changed in ({"path": "x", "digest": "2"}, {}):
        with pytest.raises(ValueError, match="began with the weights x, which have changed since"):
            dataclasses.replace(saved, weights=changed).write(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model": "this:that"}, "name it with --model to import it"),
        ({"classes": "{"}, "its metadata are no JSON"),
        ({"classes": "3"}, "it says no classes"),
        ({"fields": '{"block": {"class": "os:abort"}}'}, "with code of its own"),
        ({"std": "[0]"}, "it says no std"),
    ],
)
def test_what_a_file_says_of_itself_is_checked_and_imports_nothing(metadata, message, exported, tmp_path, capsys):
    said = pretrained.read_metadata(exported) | metadata
    save_file(load_file(exported), tmp_path / "odd.safetensors", said)
    (tmp_path / "image.png").write_bytes(b"")
    code, text = run(capsys, "classify", tmp_path / "image.png", "--weights", tmp_path / "odd.safetensors")
    assert (code, message in text) == (2, True), text
