"""Published sets of texts: prepared whole or not at all, and read as tables."""

import gzip
import os
import subprocess
import sys

import pytest
from etude.data import text
from etude.data.text import prepare
from etude.errors import InputError
from etude.experiments import prepare as command

COUNTS = {"train": ("train", 40), "validation": ("val", 4), "test": ("test_2016_flickr", 3)}
MORE = {"test_2018_flickr": ("test_2018_flickr", 2)}


@pytest.fixture
def multi30k(tmp_path, monkeypatch):
    """A folder with the files of a small Multi30k, some of them compressed."""
    monkeypatch.setattr(prepare, "MULTI30K", COUNTS)
    monkeypatch.setattr(prepare, "MULTI30K_MORE", MORE)
    folder = tmp_path / "archives"
    folder.mkdir()
    for stem, count in (COUNTS | MORE).values():
        (folder / f"{stem}.en").write_text("".join(f'A "dog" {i} of {stem}. \n' for i in range(count)))
        czech = "".join(f"Pes č. {i} z {stem}.\r\n" for i in range(count))
        (folder / f"{stem}.cs.gz").write_bytes(gzip.compress(czech.encode()))
    return folder


@pytest.fixture
def sentiment(tmp_path, monkeypatch):
    """A folder with 100 snippets, every fourth of which is neutral."""
    monkeypatch.setattr(prepare, "SNIPPETS", ("movieReviewSnippets_GroundTruth.txt", 100))
    folder = tmp_path / "snippets"
    folder.mkdir()
    rows = [f"{i + 1}\t{(-0.49, 0.5, -0.5, 3.9)[i % 4]}\tFilm {i % 90}." for i in range(100)]
    (folder / "movieReviewSnippets_GroundTruth.txt").write_bytes("\r\n".join(rows).encode())
    return folder


def test_pairs_are_read_as_they_are_published(multi30k, tmp_path):
    assert prepare.from_archives("multi30k_en_cs", multi30k, tmp_path) == tmp_path / "multi30k_en_cs"
    parts = {split: text.load("multi30k_en_cs", split, data_dir=tmp_path) for split in text.SPLITS}
    assert {split: len(each) for split, each in parts.items()} == {"train": 40, "validation": 4, "test": 3}
    assert parts["test"].columns["source"][0] == 'A "dog" 0 of test_2016_flickr.'
    assert parts["test"].columns["target"][2] == "Pes č. 2 z test_2016_flickr."


def test_another_test_set_is_chosen_by_its_name(multi30k, tmp_path):
    prepare.from_archives("multi30k_en_cs", multi30k, tmp_path)
    texts = text.load("multi30k_en_cs#test_2018_flickr", "test", data_dir=tmp_path)
    assert texts.columns["source"] == ('A "dog" 0 of test_2018_flickr.', 'A "dog" 1 of test_2018_flickr.')
    assert texts.name == "multi30k_en_cs#test_2018_flickr"
    for unknown in ("test_2017_flickr", "train", "../multi30k_en_cs/test"):
        with pytest.raises(InputError, match="Valid are: test_2018_flickr"):
            text.load(f"multi30k_en_cs#{unknown}", "test", data_dir=tmp_path)


def test_the_second_test_set_may_be_missing(multi30k, tmp_path):
    for file in multi30k.glob("test_2018*"):
        file.unlink()
    folder = prepare.from_archives("multi30k_en_cs", multi30k, tmp_path)
    assert sorted(os.listdir(folder)) == ["notes.txt", "test.tsv", "train.tsv", "validation.tsv"]


def test_snippets_are_labeled_by_the_sign_of_their_rating_and_neutral_ones_are_counted(sentiment, tmp_path):
    prepare.from_archives("sentiment", sentiment, tmp_path)
    parts = [text.load("sentiment", split, data_dir=tmp_path) for split in text.SPLITS]
    labels = {f"Film {i}.": int(i % 4 != 2) for i in range(10, 90) if i % 4}
    for texts in parts:
        assert texts.classes == ("negative", "positive")
        assert "Left out, since their mean rating is between -0.5 and 0.5: 25 of 100 snippets." in texts.notes
        assert all(
            label == labels.get(each, label) for each, label in zip(texts.columns["text"], texts.labels, strict=True)
        )
    assert sum(map(len, parts)) == 75


def test_snippets_with_the_same_text_are_in_one_split(sentiment, tmp_path):
    prepare.from_archives("sentiment", sentiment, tmp_path)
    sets = [set(text.load("sentiment", split, data_dir=tmp_path).columns["text"]) for split in text.SPLITS]
    assert sum(map(len, sets)) == len(set.union(*sets))


def edit(path, change):
    unpacked = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    path.write_bytes(gzip.compress(change(unpacked)) if path.suffix == ".gz" else change(unpacked))


DAMAGES = {
    "missing": (lambda path: path.unlink(), r"has no file {stem} or {stem}\.gz"),
    "empty": (lambda path: path.write_bytes(b""), "{stem}"),
    "a web page": (lambda path: path.write_bytes(b"<html>not found</html>\n"), "{stem}"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-60]), "{stem}"),
    "a line too few": (
        lambda path: edit(path, lambda c: c[: c.rstrip().rindex(b"\n") + 1]),
        r"{stem}.* lines, not the",
    ),
    "a line too many": (lambda path: edit(path, lambda c: c.rstrip() + b"\nmore\n"), r"{stem}.* lines, not the"),
    "a blank line": (lambda path: edit(path, lambda c: c[c.index(b"\n") :]), r"{stem}.*, line 1 is damaged"),
    "a tab": (lambda path: edit(path, lambda c: b"a\tb\tc\td" + c), r"{stem}.*, line 1 is damaged"),
    "a NUL": (lambda path: edit(path, lambda c: c.replace(b".", b"\0", 1)), "{stem}.* is damaged|rating"),
    "latin-1": (lambda path: edit(path, lambda c: c.replace(b"i", b"\xe8", 1)), r"{stem}.* is damaged"),
    "a bomb": (lambda path: edit(path, lambda c: c + bytes(2**27)), r"{stem}.* has more lines"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["train.cs.gz", "val.en", "movieReviewSnippets_GroundTruth.txt"])
def test_a_damaged_file_is_named_and_nothing_is_written(multi30k, sentiment, tmp_path, damage, file):
    name, archives = ("sentiment", sentiment) if "movie" in file else ("multi30k_en_cs", multi30k)
    if (damage, file) == ("latin-1", "val.en"):
        edit(archives / file, lambda c: c.replace(b"d", b"i"))
    do, message = DAMAGES[damage]
    do(archives / file)
    with pytest.raises(InputError, match=message.replace("{stem}", file.removesuffix(".gz"))):
        prepare.from_archives(name, archives, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("rating", ["4.1", "-5", "nan", "inf", "good"])
def test_a_rating_that_is_none_is_refused_by_its_line(sentiment, tmp_path, rating):
    edit(sentiment / "movieReviewSnippets_GroundTruth.txt", lambda c: c.replace(b"3.9", rating.encode(), 1))
    with pytest.raises(InputError, match=rf"GroundTruth\.txt, line 4 has no rating of -4 to 4, but '{rating}'"):
        prepare.from_archives("sentiment", sentiment, tmp_path)


def test_half_of_the_second_test_set_is_refused(multi30k, tmp_path):
    (multi30k / "test_2018_flickr.en").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no file test_2018_flickr\.en or test_2018_flickr\.en\.gz"):
        prepare.from_archives("multi30k_en_cs", multi30k, tmp_path / "data")


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failure_while_writing_leaves_nothing(multi30k, tmp_path, monkeypatch, failure, seen):
    def fail(file, lines):
        if "test" in file.name:
            raise failure

    monkeypatch.setattr(prepare, "_write", fail)
    with pytest.raises(seen):
        prepare.from_archives("multi30k_en_cs", multi30k, tmp_path / "data")
    assert os.listdir(tmp_path / "data") == []


def test_a_folder_that_is_not_whole_is_refused_and_not_touched(multi30k, tmp_path):
    (tmp_path / "multi30k_en_cs").mkdir()
    for use in (
        lambda: prepare.from_archives("multi30k_en_cs", multi30k, tmp_path),
        lambda: text.load("multi30k_en_cs", "train", data_dir=tmp_path),
    ):
        with pytest.raises(InputError, match=r"has no train\.tsv: delete it and prepare multi30k_en_cs again"):
            use()
    assert os.listdir(tmp_path / "multi30k_en_cs") == []


@pytest.mark.parametrize(
    ("name", "source"),
    [("multi30k_en_cs", "https://github.com/multi30k/dataset"), ("sentiment", "vaderSentiment on PyPI")],
)
def test_a_set_that_is_not_prepared_fails_with_its_command_and_source(tmp_path, name, source):
    message = f"etude prepare {name} --archives DIR --data-dir {tmp_path}, where DIR has .*{source}"
    with pytest.raises(FileNotFoundError, match=message):
        text.load(name, "train", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        command.main(command.Config(name, data_dir=tmp_path))


def test_the_command_names_the_folder_and_does_not_write_it_again(multi30k, tmp_path, capsys):
    config = command.Config("multi30k_en_cs", multi30k, tmp_path)
    command.main(config)
    folder = tmp_path / "multi30k_en_cs"
    assert f"wrote {folder}" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    command.main(command.Config("multi30k_en_cs", tmp_path / "nothing", tmp_path))
    assert f"already prepared in {folder}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match=f"not prepared in {tmp_path / 'tensorflow_datasets'}. .* DIR, where"):
        text.load("sentiment", "train")
    monkeypatch.setenv("TFDS_DATA_DIR", "~/mine")
    with pytest.raises(FileNotFoundError, match=f"not prepared in {tmp_path / 'mine'}. "):
        text.load("sentiment", "train")


def test_tables_are_read_without_importing_tfds(multi30k, tmp_path):
    prepare.from_archives("multi30k_en_cs", multi30k, tmp_path)
    code = f"""
import sys
from etude.data import text
print(len(text.load("multi30k_en_cs", "train", data_dir={str(tmp_path)!r})), "tensorflow_datasets" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "40 False\n", done.stderr


# The real files.


def test_the_real_multi30k_is_prepared_whole(real_data, tmp_path):
    prepare.from_archives("multi30k_en_cs", real_data("multi30k-en-cs", "Multi30k"), tmp_path)
    parts = {split: text.load("multi30k_en_cs", split, data_dir=tmp_path) for split in text.SPLITS}
    assert [len(each) for each in parts.values()] == [29_000, 1_014, 1_000]
    assert parts["train"].columns["target"][0] == "Dva mladí bílí muži jsou venku poblíž mnoha keřů."
    assert len(text.load("multi30k_en_cs#test_2018_flickr", "test", data_dir=tmp_path)) == 1_071


def test_the_real_film_reviews_are_prepared_whole(real_data, tmp_path):
    prepare.from_archives("sentiment", real_data("sentiment", "vaderSentiment"), tmp_path)
    parts = {split: text.load("sentiment", split, data_dir=tmp_path) for split in text.SPLITS}
    assert [len(each) for each in parts.values()] == [7_974, 1_051, 1_047]
    assert [sum(each.labels) for each in parts.values()] == [3_942, 531, 523]
