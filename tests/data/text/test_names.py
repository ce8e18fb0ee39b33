"""Sets of texts by name."""

import pytest
from etude.data import text
from etude.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no set of texts ''"),
        ("multi30k", "Did you mean multi30k_en_cs"),
        ("sentimnet", "Did you mean sentiment"),
        ("tsv", "Did you mean tsv:<path>"),
        ("tsv:", "Did you mean tsv:<path>"),
        ("tvs:a.tsv", "Did you mean tsv:<path>"),
        ("dates_en_cs:1", "Did you mean dates_en_cs"),
        ("sentiment#x", "Did you mean sentiment"),
        ("multi30k_en_cs:x", "Did you mean multi30k_en_cs"),
        ("multi30k_en_cs#", "Did you mean multi30k_en_cs"),
    ],
)
def test_an_unknown_name_is_refused_with_a_near_one_and_all_forms(name, message):
    with pytest.raises(InputError, match=message) as error:
        text.load(name, "train")
    assert all(form in str(error.value) for form in text.names())


def test_other_words_are_refused_with_the_valid_ones():
    with pytest.raises(InputError, match=r"no split 'dev'\. Valid are: train, validation, test"):
        text.load("dates_en_cs", "dev")
    with pytest.raises(InputError, match=r"no kind of texts 'label'\. Did you mean labels"):
        text.load("dates_en_cs", "train", wanted="label")


def test_a_set_that_is_not_what_is_wanted_is_refused():
    assert text.load("dates_en_cs", "test", wanted="pairs") == text.dates.load("test")
    with pytest.raises(
        InputError, match="dates_en_cs has pairs of source and target, but texts with labels are wanted"
    ):
        text.load("dates_en_cs", "test", wanted="labels")
    pairs = text.dates.load("test").columns
    assert text.load("dates_en_cs", "test", wanted="text").columns == {"text": pairs["source"] + pairs["target"]}


def test_a_path_may_hold_every_mark_and_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a#b:c.txt").write_text("".join(f"line {i}\n" for i in range(30)))
    assert text.load("text:~/a#b:c.txt", "train").kind == "text"
