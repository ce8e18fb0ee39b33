"""Results -> matplotlib figures. Draws, never computes a result; touches no global state of matplotlib."""

from .classification import confusion_matrix, predictions
from .style import save
from .training import learning_curves, range_test, schedule

__all__ = ["confusion_matrix", "learning_curves", "predictions", "range_test", "save", "schedule"]
