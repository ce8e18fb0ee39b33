"""Results -> matplotlib figures. Draws, never computes a result; touches no global state of matplotlib."""

from .classification import confusion_matrix, predictions
from .style import save
from .training import convergence, grid_search, learning_curves, range_test, range_tests, schedule

__all__ = [
    "confusion_matrix",
    "convergence",
    "grid_search",
    "learning_curves",
    "predictions",
    "range_test",
    "range_tests",
    "save",
    "schedule",
]
