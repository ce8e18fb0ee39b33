"""Networks for sequences: recurrent ones, and transformers."""

from .decoding import Decoded, beam_search, greedy, likely, sample
from .recurrent import CELLS, Recurrent
from .text_encoder import TextEncoder, mean_over_tokens, sentence_vectors
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
    "TextEncoder",
    "Transformer",
    "beam_search",
    "greedy",
    "likely",
    "mean_over_tokens",
    "sample",
    "sentence_vectors",
]
