"""Metrics: (predictions, targets) -> the numbers that people report."""

from .classification import accuracy
from .convergence import gradient_descent_bound, loglog_slope, sgd_bound
from .detection import Detections, DetectionScores, Objects, box_detection_scores, mask_detection_scores
from .fidelity import (
    ModeCoverage,
    density_coverage,
    frechet_distance,
    frechet_distance_unbiased,
    kernel_distance,
    kernel_distance_of_subsets,
    mode_coverage,
    precision_recall,
)
from .panoptic import PanopticScores, panoptic_counts, panoptic_quality
from .partitions import (
    ISBI_THRESHOLDS,
    Agreement,
    adapted_rand_error,
    best_isbi_scores,
    isbi_scores,
    regions,
    thin_borders,
    v_info,
    v_rand,
)
from .range_test import MIN_POINTS, RangeTest, blown_up, range_test
from .segmentation import boundary_f, class_iou, confusion_matrix, mean_of_defined, segmentation_scores
from .translation import signatures, translation_scores
from .voting import majority_vote, mean_vote

__all__ = [
    "ISBI_THRESHOLDS",
    "MIN_POINTS",
    "Agreement",
    "DetectionScores",
    "Detections",
    "ModeCoverage",
    "Objects",
    "PanopticScores",
    "RangeTest",
    "accuracy",
    "adapted_rand_error",
    "best_isbi_scores",
    "blown_up",
    "boundary_f",
    "box_detection_scores",
    "class_iou",
    "confusion_matrix",
    "density_coverage",
    "frechet_distance",
    "frechet_distance_unbiased",
    "gradient_descent_bound",
    "isbi_scores",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "loglog_slope",
    "majority_vote",
    "mask_detection_scores",
    "mean_of_defined",
    "mean_vote",
    "mode_coverage",
    "panoptic_counts",
    "panoptic_quality",
    "precision_recall",
    "range_test",
    "regions",
    "segmentation_scores",
    "sgd_bound",
    "signatures",
    "thin_borders",
    "translation_scores",
    "v_info",
    "v_rand",
]
