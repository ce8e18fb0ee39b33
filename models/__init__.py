"""Networks: flax.linen modules and the pure functions they are made of. Knows nothing of training."""

from .flops import count_flops
from .registry import count_parameters, create, fields, names, summary, takes_time

__all__ = ["count_flops", "count_parameters", "create", "fields", "names", "summary", "takes_time"]
