"""(prediction, target) -> loss per example, unreduced: the caller reduces with the right mask."""

from .classification import cross_entropy, log_loss
from .regression import squared_loss

__all__ = ["cross_entropy", "log_loss", "squared_loss"]
