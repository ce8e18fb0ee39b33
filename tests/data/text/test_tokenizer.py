"""Tokenizers: every text comes back, special tokens are no text, and the same texts give the same tokenizer."""

import numpy as np
import pytest
from etude.data.text import BEGIN, END, PAD, SPECIAL, UNKNOWN, Tokenizer, read_tokenizer, train_tokenizer
from hypothesis import given
from hypothesis import strategies as st

TEXTS = ["A man plays the guitar.", "Muž hraje na kytaru.", "Two men play guitars; the man's guitar plays."] * 3
KINDS = {kind: train_tokenizer(TEXTS, kind, vocab_size=290) for kind in ("bytes", "characters", "subwords")}
STRANGE = ["", " ", "a\nb\r\n\tc", "שלום עולם", "🐘 👩‍👩‍👧", "\x00\x07", "<end> <pad>", "word " * 10_000, "e\u0301"]


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("kind", ["bytes", "subwords"])
def test_every_text_comes_back_in_composed_form(kind, text):
    tokens = KINDS[kind].encode([text])
    assert KINDS[kind].decode(tokens) == [text.replace("e\u0301", "é")]
    assert tokens[0][-1] == END
    assert tokens[0].dtype == np.int32


@given(text=st.text(max_size=30))
def test_any_text_can_be_encoded_and_decoded(text):
    for tokenizer in KINDS.values():
        (tokens,) = tokenizer.encode([text])
        assert tokens.max() < tokenizer.vocab_size
        tokenizer.decode([tokens])


def test_bytes_are_the_bytes_of_utf_8():
    (tokens,) = KINDS["bytes"].encode(["Muž"], end=False)
    assert len(tokens) == len("Muž".encode())
    assert KINDS["bytes"].vocab_size == 256 + len(SPECIAL)


def test_characters_that_were_not_seen_are_unknown():
    (tokens,) = KINDS["characters"].encode(["Aß"], end=False)
    assert (tokens == UNKNOWN).tolist() == [False, True]


def test_subwords_are_fewer_than_bytes_and_as_many_as_asked_for():
    assert KINDS["subwords"].vocab_size == 290
    assert len(KINDS["subwords"].encode([TEXTS[0]])[0]) < len(KINDS["bytes"].encode([TEXTS[0]])[0]) / 2


def test_special_tokens_are_where_they_are_said_to_be():
    for tokenizer in KINDS.values():
        assert tokenizer.encode(["a"], begin=True)[0][[0, -1]].tolist() == [BEGIN, END]
        assert tokenizer.decode([[BEGIN, *tokenizer.encode(["a"], end=False)[0], PAD, END, 7]]) == ["a"]
        assert tokenizer.token_texts([PAD, END]) == ["<pad>", "<end>"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_tokenizer_and_json_brings_it_back(kind, tmp_path):
    again = train_tokenizer(TEXTS, kind, vocab_size=290)
    assert again.json == KINDS[kind].json
    (tmp_path / "tokenizer.json").write_text(again.json, encoding="utf-8")
    assert read_tokenizer(tmp_path / "tokenizer.json") == again


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: train_tokenizer(TEXTS, "words"), "subwords"),
        (lambda path: train_tokenizer(TEXTS, vocab_size=100), "at least 260"),
        (lambda path: train_tokenizer(map(chr, range(0x4E00, 0x4E00 + 10_001)), "characters"), "10001 different"),
        (lambda path: Tokenizer("{}"), "not a tokenizer"),
        (lambda path: read_tokenizer(path / "none.json"), "no tokenizer"),
    ],
)
def test_what_is_not_valid_is_named(call, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        call(tmp_path)
