"""Results -> matplotlib figures. Draws, never computes a result; touches no global state of matplotlib."""

from .classification import confusion_matrix, predictions
from .comparisons import comparison, depths, gaps, race, widths
from .functions import approximation, paths
from .generation import image_grid, latent_map, loss_curves
from .rates import gallery, grid_search, range_test, range_tests, schedule
from .style import save
from .training import compared_curves, convergence, learning_curves

__all__ = [
    "approximation",
    "compared_curves",
    "comparison",
    "confusion_matrix",
    "convergence",
    "depths",
    "gallery",
    "gaps",
    "grid_search",
    "image_grid",
    "latent_map",
    "learning_curves",
    "loss_curves",
    "paths",
    "predictions",
    "race",
    "range_test",
    "range_tests",
    "save",
    "schedule",
    "widths",
]
