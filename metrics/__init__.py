"""(predictions, targets) -> numbers people report."""

from .classification import accuracy
from .range_test import RangeTest, range_test

__all__ = ["RangeTest", "accuracy", "range_test"]
