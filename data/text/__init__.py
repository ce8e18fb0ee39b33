"""Where texts come from, `load("tsv:pairs.tsv", "train")`, and texts as tokens, by the library `tokenizers`."""

from . import dates, prepare
from .catalogue import load, names
from .rows import SEGMENTS, pack, padded
from .texts import SPLITS, Texts, split_of
from .tokenizer import BEGIN, END, KINDS, PAD, SPECIAL, UNKNOWN, Tokenizer, read_tokenizer, train_tokenizer

__all__ = [
    "BEGIN",
    "END",
    "KINDS",
    "PAD",
    "SEGMENTS",
    "SPECIAL",
    "SPLITS",
    "UNKNOWN",
    "Texts",
    "Tokenizer",
    "dates",
    "load",
    "names",
    "pack",
    "padded",
    "prepare",
    "read_tokenizer",
    "split_of",
    "train_tokenizer",
]
