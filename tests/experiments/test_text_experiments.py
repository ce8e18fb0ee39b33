"""Classification and modelling of texts from end to end: users' own files, any text, and what is left of each run."""

import importlib
import json
import math

import pytest
from etude import lab
from etude.lab import cli

ODD = ["VS3 is great!", "😀 שלום مرحبا", "a\x00b\x07", "žluťoučký kůň", "\ud800", "word " * 10_000]
TOKENS = ["--tokenizer", "characters", "--row-tokens", "32", "--width", "16", "--epochs", "5"]


def use(command, *values, **options):
    module = importlib.import_module(f"etude.experiments.{command}")
    return module.main(module.Config(*values, **options))


@pytest.fixture(scope="module")
def classifiers(few_labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "classifiers"
    options = [
        "--data",
        few_labels,
        *TOKENS,
        "--population.seeds",
        "2",
        "--learning-rate",
        "0.02",
        "--batch-size",
        "16",
    ]
    assert cli.main(["text_classification", *options, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def writer(few_labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "writer"
    options = ["--data", few_labels, *TOKENS, "--depth", "1", "--batch-size", "8", "--out", str(folder)]
    assert cli.main(["language_model", *options]) == 0
    return folder


def test_each_network_stands_beside_the_baseline(classifiers):
    metrics = json.loads((classifiers / "result.json").read_text())["metrics"]
    for name in ("rnn", "lstm", "transformer"):
        assert 0 <= metrics[f"{name}_test_accuracy"] <= 1
        assert f"{name}_test_accuracy_std" in metrics
    assert metrics["lstm_test_accuracy"] > 0.9 > metrics["baseline_accuracy"]  # which sees words, and not letters


@pytest.mark.parametrize("network", ["", "rnn", "lstm", "transformer"])
def test_any_text_has_classes_that_add_up(classifiers, network):
    told = use("classify_text", tuple(ODD), classifiers / network)
    assert len(told) == len(ODD)
    for each in told:
        assert {name for name, _ in each} == {"no", "yes"}
        assert math.isclose(sum(probability for _, probability in each), 1, rel_tol=1e-5)


def test_texts_longer_than_the_network_reads_and_empty_ones_are_named(classifiers, capsys):
    assert cli.main(["classify_text", "word " * 10_000, "--run", str(classifiers)]) == 0
    assert "the first 32 were read" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["classify_text", "good", "  ", "--run", str(classifiers)]) == 2
    assert "Text 2 is empty" in " ".join(capsys.readouterr().err.split())


def test_perplexity_and_bits_per_byte_are_those_of_the_loss(writer):
    metrics = json.loads((writer / "result.json").read_text())["metrics"]
    assert math.isclose(metrics["test_perplexity"], math.exp(metrics["test_loss"]), rel_tol=1e-6)
    # Of letters, a token is a byte, and so is a text's end.
    assert math.isclose(metrics["test_bits_per_byte"], metrics["test_loss"] / math.log(2), rel_tol=1e-6)
    assert metrics["test_bits_per_byte"] < 2.6  # five letters, nearly alike, and ends


@pytest.mark.parametrize("text", ["", "abc", *ODD[:-1]])
def test_a_text_is_continued_in_as_many_ways_as_wanted(writer, text):
    told = use("generate", writer, text, samples=3)
    assert len(told) == 3
    assert all(each.startswith(text) for each in told)


def test_a_text_that_leaves_no_room_is_refused(writer, capsys):
    assert cli.main(["generate", "word " * 10_000, "--run", str(writer)]) == 2
    assert "Give a shorter one" in " ".join(capsys.readouterr().err.split())


def test_the_likeliest_continuation_is_the_one_that_is_drawn_at_temperature_0(writer):
    cold = lab.SamplingOptions(temperature=1e-4)
    first, second = (use("generate", writer, "ab", random=lab.RandomOptions(seed), sampling=cold) for seed in (0, 1))
    assert first == second
