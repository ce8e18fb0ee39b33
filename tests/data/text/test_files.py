"""Texts in files of users: what is read, into which split, and what is refused by file and line."""

import codecs
import gzip
import os
import socket

import pytest
from etude.data import text
from etude.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

PAIRS = "".join(f"word {i}\tslovo {i}\n" for i in range(200))
LABELED = "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(60))


@pytest.fixture
def write(tmp_path):
    """({file name: its text or bytes}) -> their folder."""

    def write(files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def splits(path, kind="tsv", **options):
    return {split: text.load(f"{kind}:{path}", split, **options) for split in text.SPLITS}


def rows(texts):
    return list(zip(*texts.columns.values(), strict=True))


# What is read.


def test_a_single_file_of_pairs_is_split_by_its_sources(write):
    path = write({"pairs.tsv": PAIRS}) / "pairs.tsv"
    parts = splits(path)
    assert sorted(row for each in parts.values() for row in rows(each)) == sorted(
        tuple(line.split("\t")) for line in PAIRS.splitlines()
    )
    assert [len(each) for each in parts.values()] == [156, 15, 29]
    assert parts["train"].name == f"tsv:{path}"
    assert parts["train"].contents == parts["test"].contents
    assert list(parts["train"].contents) == ["pairs.tsv"]


def test_no_example_moves_to_another_split_when_others_come_and_go(write):
    before = splits(write({"pairs.tsv": PAIRS}) / "pairs.tsv")
    lines = PAIRS.splitlines(keepends=True)
    after = splits(write({"pairs.tsv": "".join(["new\tnový\n", *lines[:50][::-1], *lines[60:]])}) / "pairs.tsv")
    for split in text.SPLITS:
        assert set(rows(after[split])) - {("new", "nový")} <= set(rows(before[split]))


def test_equal_texts_never_stand_in_two_splits(write):
    lines = [f"word {i % 40}\tslovo {i}" for i in range(400)]
    parts = splits(write({"pairs.tsv": "\n".join(lines)}) / "pairs.tsv")
    sources = [set(each.columns["source"]) for each in parts.values()]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 40
    assert sum(map(len, parts.values())) == 400


@pytest.mark.parametrize("kept", ["val.tsv", "dev.tsv", "Validation.TSV"])
def test_a_folder_with_all_splits_is_used_as_it_is(write, kept):
    parts = splits(write({"train.tsv": "a\tA\nb\tB\n", kept: "c\tC\n", "test.tsv": "d\tD\n"}))
    assert {split: rows(each) for split, each in parts.items()} == {
        "train": [("a", "A"), ("b", "B")],
        "validation": [("c", "C")],
        "test": [("d", "D")],
    }


def test_missing_splits_of_a_folder_are_carved_as_those_of_images_are(write):
    folder = write({"train.tsv": PAIRS})
    assert [len(each) for each in splits(folder).values()] == [156, 15, 29]
    write({"test.tsv": "d\tD\n"})
    assert [len(each) for each in splits(folder).values()] == [185, 15, 1]
    (folder / "test.tsv").rename(folder / "val.tsv")  # as in ImageNet: papers report on the split that is given
    assert [len(each) for each in splits(folder).values()] == [185, 15, 1]


@pytest.mark.parametrize(
    "encode",
    [
        lambda s: s.encode(),
        lambda s: codecs.BOM_UTF8 + s.encode(),
        lambda s: s.encode("utf-16"),
        lambda s: codecs.BOM_UTF16_BE + s.encode("utf-16-be"),
        lambda s: s.replace("\n", "\r\n").encode(),
        lambda s: s.removesuffix("\n").encode(),
    ],
)
def test_texts_survive_unchanged_in_every_encoding(write, encode):
    lines = [
        'Říká "ahoj"\tsays "hi',
        "🧑‍🚀 e\u0301\t\u200fשלום עולם",
        "  two  spaces \t\u2028separator\x0b\x85",
        "'\t\\n",
        "long " * 10_000 + "\tdlouhý",
    ]
    table = "\n".join(lines) + "\n"
    folder = write({"train.tsv": encode(table), "val.tsv": "a\tb", "test.tsv": "c\td"})
    assert ["\t".join(row) for row in rows(text.load(f"tsv:{folder}", "train"))] == lines


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]))] * 2)))
def test_any_table_is_read_back_or_refused_in_one_message(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("any")
    (folder / "train.tsv").write_text(
        "source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in table), "utf-8", newline=""
    )
    for held_out in ("val.tsv", "test.tsv"):
        (folder / held_out).write_text("source\ttarget\n0\t0", "utf-8")
    kept = [row for row in table if all(map(str.strip, row))]
    if kept:
        assert rows(text.load(f"tsv:{folder}", "train")) == kept
    else:
        with pytest.raises(InputError, match=r"train\.tsv has no examples"):
            text.load(f"tsv:{folder}", "train")


@given(st.binary(), st.sampled_from([None, "pairs", "labels", "text"]), st.sampled_from(["tsv", "text"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, wanted, kind):
    file = tmp_path_factory.mktemp("any") / "file"
    file.write_bytes(content)
    try:
        said = text.load(f"{kind}:{file}", "train", wanted=wanted).columns
    except InputError as error:
        said = str(error).splitlines()
    assert said


def test_a_header_names_the_columns_in_any_order_and_others_are_left_out(write):
    lines = "id\tLabel\tSentence\n" + "".join(f"{i}\t{'bad' if i % 2 else 'good'}\ttext {i}\n" for i in range(60))
    texts = text.load(f"tsv:{write({'a.tsv': lines}) / 'a.tsv'}", "train")
    assert (texts.kind, texts.classes) == ("labels", ("bad", "good"))
    assert texts.labels == tuple(1 - int(each.split()[1]) % 2 for each in texts.columns["text"])
    assert any("a.tsv, columns: id" in note for note in texts.notes)


def test_without_a_header_the_columns_are_what_is_wanted(write):
    path = write({"a.tsv": LABELED.partition("\n")[2]}) / "a.tsv"
    assert text.load(f"tsv:{path}", "train").kind == "pairs"
    labeled = text.load(f"tsv:{path}", "train", wanted="labels")
    assert (labeled.kind, labeled.classes) == ("labels", ("0", "1"))
    alone = text.load(f"tsv:{write({'b.tsv': PAIRS.replace(chr(9), ' ')}) / 'b.tsv'}", "train", wanted="text")
    assert (alone.kind, alone.columns["text"][0]) == ("text", "word 0 slovo 0")


def test_labels_are_left_out_where_texts_alone_are_wanted(write):
    texts = text.load(f"tsv:{write({'a.tsv': LABELED}) / 'a.tsv'}", "train", wanted="text")
    assert (texts.kind, texts.classes, texts.labels, len(texts) > 40) == ("text", (), (), True)


def test_classes_that_are_numbers_are_in_the_order_of_numbers(write):
    lines = "text\tlabel\n" + "".join(f"text {i}\t {i % 11 - 1}\n" for i in range(200))
    texts = text.load(f"tsv:{write({'a.tsv': lines}) / 'a.tsv'}", "train")
    assert texts.classes == tuple(map(str, range(-1, 10)))


def test_every_class_of_three_texts_is_in_every_split(write):
    lines = "text\tlabel\n" + "".join(f"text {i}\t{'rare' if i < 3 else 'usual'}\n" for i in range(100))
    for texts in splits(write({"a.tsv": lines}) / "a.tsv").values():
        assert texts.labels.count(texts.classes.index("rare")) == 1


def test_what_is_left_out_is_counted(write):
    folder = write({"train.tsv": "\n\n  \na\tA\n\tB\nc\t \n\t\n" + PAIRS, "odd.tsv": "x", "readme.md": "y"})
    assert text.load(f"tsv:{folder}", "test").notes == (
        "Not read, since not named like a split: odd.tsv.",
        f"Left out of {folder / 'train.tsv'}, blank lines: 4.",
        f"Left out of {folder / 'train.tsv'}, lines with an empty cell: 2.",
    )


def test_texts_that_given_splits_share_are_counted(write):
    folder = write({"train.tsv": "a\tA\nb\tB\nb\tC\n", "val.tsv": "c\tC\n", "test.tsv": "b\tX\na\tX\nc\tX\nd\tX\n"})
    notes = ("Texts that are in train and in test: 2.", "Texts that are in validation and in test: 1.")
    assert text.load(f"tsv:{folder}", "train").notes == notes


def test_a_test_split_whose_labels_are_kept_secret_is_not_read(write):
    folder = write({"train.tsv": LABELED, "dev.tsv": LABELED.replace("text ", "dev "), "test.tsv": "id\ttext\n0\tx\n"})
    for wanted in (None, "labels"):
        texts = text.load(f"tsv:{folder}", "test", wanted=wanted)
        assert texts.columns["text"][0] == "dev 0"
        assert f"Not read, since it has no labels: {folder / 'test.tsv'}." in texts.notes


def test_lines_of_plain_text_are_examples_with_all_their_characters(write):
    lines = ["text\tlabel", " indented", 'a "quote', "\u2028"] + [f"line {i}" for i in range(100)]
    parts = splits(write({"a.txt": "\n\n".join(lines)}) / "a.txt", "text")
    assert sorted(each for part in parts.values() for each in part.columns["text"]) == sorted(
        line for line in lines if line.strip()
    )
    assert {part.kind for part in parts.values()} == {"text"}


def test_a_folder_of_plain_text_has_a_file_for_each_split(write):
    parts = splits(write({"train.txt": "a\nb", "valid.txt": "c", "test.txt": "d", "train.tsv": "x"}), "text")
    assert [each.columns["text"] for each in parts.values()] == [("a", "b"), ("c",), ("d",)]


# What is refused.

BROKEN = {
    "empty": (b"", r"{file} has no examples: it is empty"),
    "blank": (b"\n \r\n\t\n", r"{file} has no examples: it is blank"),
    "a header alone": (b"source\ttarget\n", r"{file} has no examples: no line has a text in each of source, target"),
    "empty cells alone": (b"a\t\n\tb\n", r"{file} has no examples"),
    "too many columns": (b"a\tb\n\nc\td\te\n", r"{file}, line 3 has 3 columns, not 2 \(source, target\)"),
    "too few columns": (b"a\tb\r\nc\r\n", r"{file}, line 2 has 1 column, not 2 \(source, target\)"),
    "other columns than the header": (
        b"id\tsource\ttarget\n1\ta\n",
        r"{file}, line 2 has 2 columns, not 3 as its header",
    ),
    "a header without its other half": (b"source\tx\na\tb\n", r"{file}, line 1 looks like a header, with source; "),
    "a header with a column twice": (b"source\ttarget\ttarget\na\tb\tc\n", r"{file}, line 1 looks like a header"),
    "latin-1": ("a\tb\nč\tř\n".encode("iso8859-2"), r"{file}, line 2 is no text in UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"{file}, line 1 is no text"),
    "an archive": (gzip.compress(b"a\tb\n" * 100), r"{file}, line 1 is no text"),
    "zeros": (bytes(100), r"{file}, line 1 has a NUL character"),
    "a NUL": (b"a\tb\nc\0\td\n", r"{file}, line 2 has a NUL character"),
    "UTF-16 without a mark": ("a\tb\n".encode("utf-16-le"), r"{file}, line 1 has a NUL character"),
    "half a surrogate": (b"a\tb\nc\t\xed\xa0\x80\n", r"{file}, line 2 is no text"),
    "half a surrogate in UTF-16": (
        codecs.BOM_UTF16_LE + "a\tb\nc\t".encode("utf-16-le") + b"\x00\xd8" + "\n".encode("utf-16-le"),
        r"{file}, line 2 is no text",
    ),
    "half a character": (codecs.BOM_UTF16_LE + "Ċ\tb\n".encode("utf-16-le") + b"a", r"{file}, line 2 is no text"),
    "one class": (b"text\tlabel\na\tx\nb\tx\n", r"All labels of {file} are 'x'; there must be at least two"),
    "texts as labels": (b"text\tlabel\na\tb\nc\td\ne\tf\n", r"{file} has 3 different labels of 3 texts"),
    "too few to carve": (b"a\tb\nc\td\n", r"tsv:.* can't be split\. 2 examples are too few to carve"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_broken_file_is_refused_by_file_and_line_whichever_split_is_asked_for(write, broken, split):
    content, message = BROKEN[broken]
    path = write({"mine.tsv": content}) / "mine.tsv"
    with pytest.raises(InputError, match=message.replace("{file}", str(path))):
        text.load(f"tsv:{path}", split)


@pytest.mark.parametrize("broken", [each for each in BROKEN if "carve" not in each and "as labels" not in each])
@pytest.mark.parametrize("file", ["val.tsv", "test.tsv"])
def test_a_broken_held_out_file_is_refused_when_training_is_asked_for(write, broken, file):
    folder = write({"train.tsv": PAIRS, "val.tsv": PAIRS, "test.tsv": PAIRS} | {file: BROKEN[broken][0]})
    with pytest.raises(InputError, match=str(folder / file)):
        text.load(f"tsv:{folder}", "train")


@pytest.mark.parametrize("broken", ["empty", "blank", "latin-1", "a picture", "a NUL", "half a surrogate", "zeros"])
def test_broken_plain_text_is_refused_by_file(write, broken):
    path = write({"a.txt": BROKEN[broken][0]}) / "a.txt"
    with pytest.raises(InputError, match=str(path)):
        text.load(f"text:{path}", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no train\.tsv: it has no \.tsv file"),
        ({"a.csv": "a,b"}, r"has no train\.tsv: it has no \.tsv file"),
        ({"test.tsv": PAIRS, "b.tsv": PAIRS}, r"has no train\.tsv: it has b\.tsv, test\.tsv"),
        (
            {"train.tsv": PAIRS, "val.tsv": PAIRS, "dev.tsv": PAIRS},
            "two files of the validation split: dev.tsv, val.tsv",
        ),
        ({"train.tsv": LABELED, "test.tsv": "new\t1\n"}, r"test\.tsv and .*train\.tsv differ in their columns"),
        (
            {"train.tsv": "target\tsource\na\tb\n", "test.tsv": "c\td\n"},
            "differ in their columns: give all files a header",
        ),
        ({"train.tsv": LABELED, "test.tsv": "text\tlabel\na\t0\n\nb\t7\n"}, r"test\.tsv, line 4 has the label '7'"),
    ],
)
def test_a_folder_that_is_no_set_is_refused(write, files, message):
    with pytest.raises(InputError, match=message):
        text.load(f"tsv:{write(files)}", "train")


def test_a_header_of_something_else_than_is_wanted_is_refused(write):
    folder = write({"a.tsv": LABELED, "b.tsv": "source\ttarget\n" + PAIRS})
    with pytest.raises(InputError, match=r"a\.tsv, line 1 .*with text, label; a header has source and target"):
        text.load(f"tsv:{folder / 'a.tsv'}", "train", wanted="pairs")
    with pytest.raises(InputError, match=r"b\.tsv, line 1 .*with source, target; a header has text and label"):
        text.load(f"tsv:{folder / 'b.tsv'}", "train", wanted="labels")


@pytest.mark.parametrize("kind", ["tsv", "text"])
def test_what_is_no_file_is_refused(tmp_path, kind, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nothing"):
        text.load(f"{kind}:{tmp_path / 'nothing'}", "train")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as here:
        here.bind("socket")
        with pytest.raises(InputError, match="socket is no regular file"):
            text.load(f"{kind}:socket", "train")


def test_a_name_in_no_encoding_can_be_said(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.tsv"
    with open(path, "wb") as file:
        file.write(b"a\0")
    with pytest.raises(InputError, match=r"\\xff\.tsv, line 1 has a NUL") as error:
        text.load(f"tsv:{os.fsdecode(path)}", "train")
    str(error.value).encode()


def test_lines_without_a_blank_one_between_them_are_a_paragraph(tmp_path):
    blocks = [f"first {i}\nsecond {i}\tof it" for i in range(40)]
    (tmp_path / "book.txt").write_text("\n\n\n".join(blocks) + "\n")
    found = [text.load(f"paragraphs:{tmp_path / 'book.txt'}", split).columns["text"] for split in text.SPLITS]
    assert sorted(each for split in found for each in split) == sorted(blocks)
    assert all(found)
