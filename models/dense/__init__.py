"""Dense prediction: what networks that mark objects or pixels need around their layers."""

from .suppression import Decay, Kept, gaussian_decay, hard_decay, linear_decay, non_max_suppression

__all__ = ["Decay", "Kept", "gaussian_decay", "hard_decay", "linear_decay", "non_max_suppression"]
