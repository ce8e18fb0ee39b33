"""Networks for sequences: recurrent ones, and transformers."""

from .recurrent import CELLS, Recurrent

__all__ = ["CELLS", "Recurrent"]
