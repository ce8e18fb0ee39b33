"""Results -> matplotlib figures. Draws, never computes a result; touches no global state of matplotlib."""

from .classification import confusion_matrix, predictions
from .functions import approximation, paths
from .style import save
from .training import convergence, gallery, grid_search, learning_curves, race, range_test, range_tests, schedule

__all__ = [
    "approximation",
    "confusion_matrix",
    "convergence",
    "gallery",
    "grid_search",
    "learning_curves",
    "paths",
    "predictions",
    "race",
    "range_test",
    "range_tests",
    "save",
    "schedule",
]
