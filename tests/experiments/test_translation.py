"""Translation from end to end: users' own pairs, any text to translate, a kill that changes nothing."""

import importlib
import json

import numpy as np
import pytest
from etude import lab
from etude.lab import cli

SHORT = ["--tokenizer", "characters", "--row-tokens", "48", "--width", "16", "--epochs", "2", "--beam", "2"]
SHORT += ["--batch-size", "4"]
ODD = ["", "   ", "VS3 is great!", "😀 שלום مرحبا", "a\x00b\x07", "žluťoučký kůň", "\ud800"]


@pytest.fixture(scope="module")
def run(few_pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "demo"
    options = ["--data", few_pairs, "--tokenizer", "characters", "--row-tokens", "48", "--width", "16"]
    assert (
        cli.main(["translation", *options, "--epochs", "2", "--beam", "2", "--batch-size", "4", "--out", str(folder)])
        == 0
    )
    return folder


def test_each_network_has_its_numbers_and_where_attention_looked(run):
    result = json.loads((run / "result.json").read_text())
    for name in ("rnn", "attention", "transformer"):
        assert {f"{name}_{score}" for score in ("exact_match", "bleu", "chrf")} <= result["metrics"].keys()
    assert any("version:" in note for note in result["notes"])  # sacrebleu's signature
    table = json.loads((run / "transformer" / "translations.json").read_text())
    weights = np.array(table["attention"]["weights"])
    assert weights.shape == (len(table["attention"]["target"]), len(table["attention"]["source"]))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-2)
    assert {path.stem for path in (run / "figures").glob("*.png")} == {"attention", "quality_by_length"}


@pytest.mark.parametrize("network", ["", "rnn", "attention", "transformer"])
def test_any_text_has_a_translation_of_a_trained_network(run, network, capsys):
    texts = [*ODD, "red cat"]
    told = importlib.import_module("etude.experiments.translate").main(
        importlib.import_module("etude.experiments.translate").Config(tuple(texts), run / network)
    )
    assert told[:2] == [[""], [""]]
    assert len(told) == len(texts)


def test_a_text_that_is_too_long_or_none_is_refused_in_one_sentence(run, capsys):
    assert cli.main(["translate", "word " * 10_000, "--run", str(run)]) == 2
    assert "the network reads at most" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["translate", "--run", str(run)]) == 2
    assert cli.main(["translate", "cat", "--run", str(run), "--best", "5"]) == 2
    assert "give a wider --beam" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["translate", "cat", "--run", str(run), "--best", "3"]) == 0
    assert cli.main(["classify", "a.png", "--run", str(run / "rnn")]) == 2
    assert "etude translate uses it" in " ".join(capsys.readouterr().err.split())


def test_a_tokenizer_that_does_not_fit_the_weights_is_refused(run, tmp_path):
    saved = json.loads((run / "transformer" / "network.json").read_text())
    other = lab.trained_tokenizer(lab.PairOptions(tokenizer="bytes"), lab.load(lab.PairOptions(), "validation")).json
    for tokenizer, message in ((other, "trained with another one"), ("", "no tokenizer"), ("{}", "no tokenizer")):
        (tmp_path / "network.json").write_text(json.dumps(saved | {"tokenizer": tokenizer}))
        with pytest.raises(ValueError, match=message):
            lab.load_network(tmp_path, "translator")


def test_numbers_of_one_seed_in_a_population_are_those_of_its_own_run(few_pairs, run, tmp_path):
    options = ["--data", few_pairs, "--tokenizer", "characters", "--row-tokens", "48", "--width", "16"]
    options += ["--epochs", "2", "--beam", "2", "--batch-size", "4", "--networks", "attention_translator"]
    assert cli.main(["translation", *options, "--population.seeds", "2", "--out", str(tmp_path / "both")]) == 0
    both, alone = (
        json.loads((path / "attention" / "translations.json").read_text()) for path in (tmp_path / "both", run)
    )
    np.testing.assert_allclose(both["validation_loss"][0], alone["validation_loss"][0], rtol=1e-3)
    assert len(both["translations"]) == 2


def test_texts_of_a_file_are_translated_line_by_line(run, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("\ufeffred cat\r\n\r\ntwo dogs\n", encoding="utf-8")
    translate = importlib.import_module("etude.experiments.translate")
    told = translate.main(translate.Config(("one",), run, tmp_path / "lines.txt"))
    assert len(told) == 4
    assert told[2] == [""]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    for file, message in (("bad.txt", "UTF-8"), ("none.txt", "no file")):
        assert cli.main(["translate", "--run", str(run), "--file", str(tmp_path / file)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
