"""Networks for sequences: recurrent ones, and transformers."""

from .decoding import Decoded, beam_search, greedy, likely, sample
from .recurrent import CELLS, Recurrent
from .transformer import PAD, LanguageModel, Stack, Transformer
from .translator import RecurrentTranslator

__all__ = [
    "CELLS",
    "PAD",
    "Decoded",
    "LanguageModel",
    "Recurrent",
    "RecurrentTranslator",
    "Stack",
    "Transformer",
    "beam_search",
    "greedy",
    "likely",
    "sample",
]
