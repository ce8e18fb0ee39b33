"""What can be said of a network without training it: sizes, costs, fields of view, features."""

from .counts import count_parameters, summary
from .features import penultimate
from .flops import count_flops
from .receptive_field import ReceptiveField, Window, receptive_field

__all__ = ["ReceptiveField", "Window", "count_flops", "count_parameters", "penultimate", "receptive_field", "summary"]
