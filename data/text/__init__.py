"""Text as arrays of tokens: tokenizers by the library `tokenizers`, and batches of fixed shapes."""

from .tokenizer import BEGIN, END, KINDS, PAD, SPECIAL, UNKNOWN, Tokenizer, read_tokenizer, train_tokenizer

__all__ = [
    "BEGIN",
    "END",
    "KINDS",
    "PAD",
    "SPECIAL",
    "UNKNOWN",
    "Tokenizer",
    "read_tokenizer",
    "train_tokenizer",
]
