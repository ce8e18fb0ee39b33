"""Texts as rows of tokens for networks: a tokenizer that the training split taught, and sources of fixed shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from .. import data
from ..data.text import Texts, Tokenizer, pack, padded, train_tokenizer
from ..errors import InputError, MissingFile
from .options import LabeledTextOptions, TextOptions
from .training import load

STEP = 16  # rows are as long as a multiple of it: lengths of texts of another seed or split hardly change them


@dataclass(frozen=True)
class Corpus:
    """Texts of all splits that are trained on or chosen by, as tokens."""

    tokenizer: Tokenizer
    """Taught by the training split."""
    lengths: Mapping[str, int]
    """Column -> the most tokens that a text of it may have, its end included: enough for a quarter more than the
    longest training text has, and no more than a row."""
    train: data.Source
    """The training split; of pairs and plain texts several to a row."""
    validation: data.Source
    """The split to choose on, likewise."""

    def rows(self, texts: Texts, column: str) -> tuple[np.ndarray, int]:
        """A column of another split, one text to a row: (int32 [texts, length], number of texts whose end was cut)."""
        tokens, length = self.tokenizer.encode(texts.columns[column]), self.lengths[column]
        return padded(tokens, length), sum(len(each) > length for each in tokens)


def corpus(options: TextOptions, *, cut: bool = False) -> Corpus:
    """Reads the training and the validation split, and puts several texts into each row.

    Args:
      options: name the texts, the kind of tokens and the length of a row.
      cut: same as in `packed_texts`.
    Raises: InputError if there are no such texts, the tokenizer can't be trained, or no training text fits into a row.
    """
    texts = {split: load(options, split) for split in ("train", "validation")}
    tokenizer = trained_tokenizer(options, texts["train"])
    tokens = {split: encoded(each, tokenizer) for split, each in texts.items()}
    longest = {name: max(map(len, each)) for name, each in tokens["train"].items()}
    lengths = {name: min(options.row_tokens, -(-5 * most // 4 // STEP) * STEP) for name, most in longest.items()}
    sources = {split: _packed(each, tokens[split], options.row_tokens, cut) for split, each in texts.items()}
    return Corpus(tokenizer, lengths, **sources)


def labeled_corpus(options: LabeledTextOptions, texts: Mapping[str, Texts]) -> Corpus:
    """The training and the validation split of texts with labels, one text to a row.

    Args:
      options: name the kind of tokens and the most that are read of each text.
      texts: split -> its texts.
    Raises: InputError if the tokenizer can't be trained.
    """
    tokenizer, length = trained_tokenizer(options, texts["train"]), options.row_tokens
    sources = {split: labeled_texts(texts[split], tokenizer, length) for split in ("train", "validation")}
    return Corpus(tokenizer, {"text": length}, **sources)


def trained_tokenizer(options: TextOptions, texts: Texts) -> Tokenizer:
    """The tokenizer that options name, trained on all columns of a split."""
    every = [text for column in texts.columns.values() for text in column]
    return train_tokenizer(every, options.tokenizer, vocab_size=options.vocab_size)


def encoded(texts: Texts, tokenizer: Tokenizer) -> dict[str, list[np.ndarray]]:
    """The tokens of each text of each column, with their end."""
    return {name: tokenizer.encode(column) for name, column in texts.columns.items()}


def packed_texts(texts: Texts, tokenizer: Tokenizer, length: int, *, cut: bool = False) -> data.Source:
    """A split with several texts to a row.

    Args:
      texts: the split.
      tokenizer: makes tokens.
      length: length of a row, in tokens.
      cut: cut what is longer into parts, each of which is read alone; else it is left out. A note says how many.
    Returns: a source of `data.text.pack`'s arrays.
    Raises: InputError if all texts are longer than a row and none is cut.
    """
    return _packed(texts, encoded(texts, tokenizer), length, cut)


def _packed(texts: Texts, tokens: Mapping[str, list[np.ndarray]], length: int, cut: bool) -> data.Source:
    notes = texts.notes
    fits = np.all([[len(each) <= length for each in column] for column in tokens.values()], axis=0)
    what = f"{int((~fits).sum()):,} of {len(fits):,} {texts.split} texts are longer than {length} tokens"
    if cut:
        kept = {
            name: [each[i : i + length] for each in column for i in range(0, max(1, len(each)), length)]
            for name, column in tokens.items()
        }
    elif not fits.any():
        raise InputError(f"All {texts.split} texts of {texts.name} are longer than a row of {length} tokens.")
    else:
        kept = {name: [column[i] for i in np.flatnonzero(fits)] for name, column in tokens.items()}
    if not fits.all():
        notes = (*notes, f"{what}: {'cut into parts, each read alone' if cut else 'left out'}.")
    return _source(texts, pack(kept, dict.fromkeys(kept, length)), notes)


def labeled_texts(texts: Texts, tokenizer: Tokenizer, length: int) -> data.Source:
    """A split with one text to a row, "text", and its "label"; of longer texts the beginning counts, as a note says."""
    (tokens,) = encoded(texts, tokenizer).values()
    cut = sum(len(each) > length for each in tokens)
    notes = texts.notes
    if cut:
        notes = (*notes, f"Of {cut:,} of {len(tokens):,} {texts.split} texts the first {length} tokens are read.")
    rows = {"text": padded(tokens, length), "label": np.asarray(texts.labels, np.int32)}
    return _source(texts, rows, notes)


def _source(texts: Texts, rows: Mapping[str, np.ndarray], notes: Sequence[str]) -> data.Source:
    spec = {name: jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for name, each in rows.items()}
    return data.Source(
        texts.name, texts.split, data.Arrays(rows), spec, texts.classes, texts.contents, notes=tuple(notes)
    )


def rows_for(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> np.ndarray:
    """Texts of a user as rows of tokens, int32 [texts, length].

    Args:
      texts: the texts.
      tokenizer: makes tokens.
      length: the most tokens that a network reads.
    Raises: InputError for a text that is longer.
    """
    tokens = tokenizer.encode(texts)
    for number, each in enumerate(tokens, 1):
        if len(each) > length:
            raise InputError(
                f"text {number} has {len(each):,} tokens, its end included; the network reads at most {length}. "
                "Give parts of it, such as sentences."
            )
    return padded(tokens, length)


def texts_of(given: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """The texts of a command line, and those of a file, one on each line.

    Raises: MissingFile if there is no such file; InputError if it is no text in UTF-8, or there are no texts at all.
    """
    texts = tuple(given)
    if file is not None:
        if not file.is_file():
            raise MissingFile(f"There is no file {file}.")
        try:
            texts += tuple(file.read_text(encoding="utf-8-sig").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} can't be read as text in UTF-8: {error}.") from None
    if not texts:
        raise InputError("There is no text; give one or more, each in quotes, or --file.")
    return texts
