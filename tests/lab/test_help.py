"""What --help says: a reader who has nothing else can write a command from it, in a terminal of 80 columns."""

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest
from etude import lab
from etude.lab import cli
from etude.lab.grids import GRAMMAR

README = Path(__file__).resolve().parents[2] / "README.md"
NUMBERS = {
    "0.1,0.01,0.001": [0.1, 0.01, 0.001],
    "2**-9:2**-1": [2.0**k for k in range(-9, 0)],
    "1e-4:1:9": [10 ** (-4 + k / 2) for k in range(9)],
}


def help_of(name, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert cli.run(name, ["--help"]) == 0
    return shown.getvalue()


def config_of(name):
    return importlib.import_module(f"etude.experiments.{name}").Config


def with_grid(name):
    return any(option.name == "population.learning_rate" for option in lab.options_of(config_of(name)))


def examples(text):
    """The first words of the rows of a grammar."""
    return re.findall(r"^[│ ]*    (\S+)   ", text, re.MULTILINE)


def test_every_experiment_with_a_grid_says_how_to_write_one_and_its_examples_parse(monkeypatch):
    names = [name for name in lab.experiments() if with_grid(name)]
    assert {"resnet", "vit", "mlp"} <= set(names)
    for name in names:
        shown = help_of(name, monkeypatch)
        rows = examples(shown[shown.index("A GRID is one word") : shown.index("A number is written")])
        assert {row: lab.parse_grid(row, name) for row in rows} == {
            row: pytest.approx(numbers) for row, numbers in NUMBERS.items()
        }
        assert "--population.learning-rate GRID" in shown


def test_what_the_grammar_says_of_numbers_and_quotes_parses():
    sentence = GRAMMAR[GRAMMAR.index("A number is written") :]
    numbers = re.findall(r"[\d.]+(?:e-\d+)?(?:\*\*-\d+)?(?:(?:, )|(?: or )|(?=\.))", sentence.split(". Put")[0] + ".")
    assert [lab.parse_grid(number.strip(", ").removesuffix(" or"), "x") for number in numbers] == [
        [0.1],
        [0.001],
        [2.0**-5],
    ]
    (quoted,) = re.findall(r"'(\S+)'", sentence)
    assert lab.parse_grid(quoted, "x") == NUMBERS["2**-9:2**-1"]


def test_the_readme_has_the_same_grammar():
    def letters(text):
        return re.sub(r"[\s`|]", "", text)

    for paragraph in GRAMMAR.strip().split("\n\n"):
        assert letters(paragraph) in letters(README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(lab.experiments()))
def test_help_fits_80_columns_and_shows_no_python(name, monkeypatch):
    shown = help_of(name, monkeypatch)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "None" not in shown
    assert "(default: )" not in shown


@pytest.mark.parametrize("name", sorted(lab.experiments()))
def test_every_option_has_a_sentence_which_says_what_happens_without_a_value(name):
    for option in lab.options_of(config_of(name)):
        assert option.help.endswith("."), option.name
        if option.default in (None, ()):
            assert "by default" in option.help.lower(), option.name


def test_prose_is_no_wider_than_is_read_with_ease(monkeypatch):
    shown = help_of("resnet", monkeypatch, columns=200)
    prose = shown[: shown.index("usage:")].splitlines()
    assert 80 < max(map(len, prose)) <= 100
    assert prose[0].startswith("Train a residual network")
