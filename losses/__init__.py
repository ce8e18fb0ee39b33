"""(prediction, target) -> loss per example, unreduced: the caller reduces with the right mask."""

from .classification import cross_entropy

__all__ = ["cross_entropy"]
