"""Losses: (prediction, target) -> one loss per example, unreduced. The caller reduces them with the right mask."""

from .adversarial import ADVERSARIAL_LOSSES, GRADIENT_PENALTIES, AdversarialLoss, gradient_penalty, r1_penalty
from .boxes import (
    BOX_LOSSES,
    box_area,
    box_ciou,
    box_diou,
    box_giou,
    box_iou,
    center_to_corners,
    ciou_loss,
    corners_to_center,
    diou_loss,
    giou_loss,
    iou_loss,
    pairwise_iou,
)
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
    "BOX_LOSSES",
    "GRADIENT_PENALTIES",
    "AdversarialLoss",
    "bernoulli_nll",
    "bits_per_dim",
    "box_area",
    "box_ciou",
    "box_diou",
    "box_giou",
    "box_iou",
    "center_to_corners",
    "ciou_loss",
    "corners_to_center",
    "cross_entropy",
    "diou_loss",
    "discretized_gaussian_nll",
    "discretized_logistic_nll",
    "gaussian_kl",
    "gaussian_kl_between",
    "gaussian_nll",
    "giou_loss",
    "gradient_penalty",
    "iou_loss",
    "log_loss",
    "pairwise_iou",
    "r1_penalty",
    "squared_loss",
]
