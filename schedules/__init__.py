"""step -> learning rate: pure functions, compatible with optax.Schedule, whose parameters may be traced."""

from .decay import constant, warmup_cosine
from .sweep import exponential_sweep

__all__ = ["constant", "exponential_sweep", "warmup_cosine"]
