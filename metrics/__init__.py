"""(predictions, targets) -> numbers people report."""

from .classification import accuracy
from .convergence import gradient_descent_bound, loglog_slope, sgd_bound
from .range_test import RangeTest, range_test
from .voting import majority_vote, mean_vote

__all__ = [
    "RangeTest",
    "accuracy",
    "gradient_descent_bound",
    "loglog_slope",
    "majority_vote",
    "mean_vote",
    "range_test",
    "sgd_bound",
]
