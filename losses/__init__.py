"""Losses: (prediction, target) -> one loss per example, unreduced. The caller reduces them with the right mask."""

from .adversarial import ADVERSARIAL_LOSSES, GRADIENT_PENALTIES, AdversarialLoss, gradient_penalty, r1_penalty
from .classification import cross_entropy, log_loss
from .divergences import gaussian_kl, gaussian_kl_between
from .likelihoods import (
    bernoulli_nll,
    bits_per_dim,
    discretized_gaussian_nll,
    discretized_logistic_nll,
    gaussian_nll,
)
from .regression import squared_loss

__all__ = [
    "ADVERSARIAL_LOSSES",
    "GRADIENT_PENALTIES",
    "AdversarialLoss",
    "bernoulli_nll",
    "bits_per_dim",
    "cross_entropy",
    "discretized_gaussian_nll",
    "discretized_logistic_nll",
    "gaussian_kl",
    "gaussian_kl_between",
    "gaussian_nll",
    "gradient_penalty",
    "log_loss",
    "r1_penalty",
    "squared_loss",
]
