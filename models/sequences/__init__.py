"""Networks for sequences: recurrent ones, and transformers."""

from .decoding import Decoded, beam_search, greedy, likely, sample
from .recurrent import CELLS, Recurrent
from .transformer import PAD, LanguageModel, Stack, Transformer

__all__ = [
    "CELLS",
    "PAD",
    "Decoded",
    "LanguageModel",
    "Recurrent",
    "Stack",
    "Transformer",
    "beam_search",
    "greedy",
    "likely",
    "sample",
]
