"""Names of classes as users chose them are drawn, in every figure that shows them."""

import numpy as np
import pytest
from etude import plots
from etude.plots.names import _families, drawable, letters_of
from matplotlib.font_manager import findfont

HARD = [
    "$5_$10",
    "\\frac{$",
    "$",
    "a_b^c",
    "犬",
    "кошка",
    "ネコ",
    "🐈",
    "a\nb\tc",
    "x" * 300,
    "_hidden",
    "é" * 30,
    "%d{}",
]


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_every_name_is_drawn_without_a_warning(tmp_path, name, suffix, recwarn):
    classes, images = [name, "other"], np.zeros((2, 4, 4, 1), np.uint8)
    figures = [
        plots.predictions(images, np.array([0, 1]), np.array([1, 0]), np.array([0.5, 0.7]), classes),
        plots.confusion_matrix(np.array([[3, 1], [0, 2]]), classes),
        plots.latent_map(np.zeros((2, 2)), np.array([0, 1]), classes),
        plots.image_grid(np.zeros((2, 3, 4, 4, 1), np.uint8), rows=classes),
    ]
    for i, figure in enumerate(figures):
        plots.save(figure, tmp_path / f"{i}.{suffix}")
    assert not [str(w.message) for w in recwarn if "missing from" in str(w.message)]


def test_dollars_start_no_mathematics():
    figure = plots.confusion_matrix(np.eye(2, dtype=int), ["$5_$10", "$x^2$"])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [r"\$5_\$10", r"\$x^2\$"]


def test_letters_that_a_font_has_stay_and_others_are_transcribed():
    usual = letters_of(findfont("DejaVu Sans"))
    assert drawable(["кошка", "naïve"])[0] == ["кошка", "naïve"]
    if "犬" not in usual and not _families(frozenset("犬")):
        assert drawable(["犬", "дом 犬"])[0] == ["Quan", "дом Quan"]
    else:
        assert drawable(["犬"])[0] == ["犬"]
    assert drawable(["\U000f0000"])[0] == ["\\U000f0000"]


def test_an_installed_font_that_has_the_letters_is_used(monkeypatch):
    monkeypatch.setattr("etude.plots.names._file", {"DejaVu Sans": "plain", "Cjk": "cjk"}.get)
    monkeypatch.setattr("etude.plots.names.letters_of", {"plain": frozenset("cat"), "cjk": frozenset("犬")}.get)

    class Entry:
        name, fname = "Cjk", "cjk"

    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", [Entry])
    assert drawable(["犬", "cat"]) == (["犬", "cat"], ["DejaVu Sans", "Cjk"])


def test_long_names_that_begin_and_end_alike_stay_different():
    names = ["a" * 40 + middle + "b" * 40 for middle in "xyz"] + ["short"]
    told = drawable(names)[0]
    assert len(set(told)) == 4
    assert told[-1] == "short"
    assert max(map(len, told)) <= 28
