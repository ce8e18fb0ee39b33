"""Networks for sequences: recurrent ones, and transformers."""

from .recurrent import CELLS, Recurrent
from .transformer import PAD, LanguageModel, Stack, Transformer

__all__ = ["CELLS", "PAD", "LanguageModel", "Recurrent", "Stack", "Transformer"]
