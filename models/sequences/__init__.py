"""Networks for sequences: recurrent ones, and transformers."""

from .decoding import Decoded, beam_search, greedy, likely, sample
from .recurrent import CELLS, Recurrent
from .text_classifier import TextClassifier
from .text_encoder import TextEncoder, mean_over_tokens, sentence_vectors
from .transformer import PAD, LanguageModel, Stack, Transformer, begins, positions_in, seen
from .translator import RecurrentTranslator

__all__ = [
    "CELLS",
    "PAD",
    "Decoded",
    "LanguageModel",
    "Recurrent",
    "RecurrentTranslator",
    "Stack",
    "TextClassifier",
    "TextEncoder",
    "Transformer",
    "beam_search",
    "begins",
    "greedy",
    "likely",
    "mean_over_tokens",
    "positions_in",
    "sample",
    "seen",
    "sentence_vectors",
]
