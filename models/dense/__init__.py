"""Dense prediction: what networks that mark objects or pixels need around their layers."""

from .grid import Level, anchor_boxes, cell_centers, cell_levels, grid_levels
from .letterbox import Letterbox, letterbox, letterbox_of
from .suppression import Decay, Kept, gaussian_decay, hard_decay, linear_decay, non_max_suppression

__all__ = [
    "Decay",
    "Kept",
    "Letterbox",
    "Level",
    "anchor_boxes",
    "cell_centers",
    "cell_levels",
    "gaussian_decay",
    "grid_levels",
    "hard_decay",
    "letterbox",
    "letterbox_of",
    "linear_decay",
    "non_max_suppression",
]
