"""Text as arrays of tokens: tokenizers by the library `tokenizers`, and batches of fixed shapes."""

from . import dates
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
    "pack",
    "padded",
    "read_tokenizer",
    "split_of",
    "train_tokenizer",
]
