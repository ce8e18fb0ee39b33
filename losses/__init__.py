"""Losses: (prediction, target) -> losses [batch, …], unreduced. The caller reduces them with the right mask."""

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
from .focal import sigmoid_focal_loss, softmax_focal_loss
from .likelihoods import (
    bernoulli_nll,
    bits_per_dim,
    discretized_gaussian_nll,
    discretized_logistic_nll,
    gaussian_nll,
)
from .regression import squared_loss
from .segmentation import classes_present, dense_cross_entropy, dice_loss, lovasz_softmax_loss
from .unet_weight_map import distances_to_objects, unet_weight_map

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
    "classes_present",
    "corners_to_center",
    "cross_entropy",
    "dense_cross_entropy",
    "dice_loss",
    "diou_loss",
    "discretized_gaussian_nll",
    "discretized_logistic_nll",
    "distances_to_objects",
    "gaussian_kl",
    "gaussian_kl_between",
    "gaussian_nll",
    "giou_loss",
    "gradient_penalty",
    "iou_loss",
    "log_loss",
    "lovasz_softmax_loss",
    "pairwise_iou",
    "r1_penalty",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "squared_loss",
    "unet_weight_map",
]
