"""What is trained and what "good" means: losses and metrics of whole problems, as weighted means.

A `Task` is two pure functions, `init` and `loss`; a `Game` has a loss for each of two players. Both are built here from
networks, losses and metrics, and trained by `train`, which knows only the types.
"""

from .adversarial import adversarial, player_variables, sample_generator
from .assignment import BACKGROUND, IGNORED, Assignment, assign_anchors, assign_cells
from .classification import classification
from .denoising import denoising, predictor
from .detection import DetectionWeights, Found, detection, find_objects, panoptic_truth
from .mean import Mean
from .quantized import codes_to_images, images_to_codes, vector_quantized
from .segmentation import segmentation
from .task import (
    DISCRIMINATOR,
    GENERATOR,
    Aux,
    Batch,
    Evaluation,
    Game,
    Hyper,
    RowEvaluation,
    Task,
    Variables,
    evaluation,
    example_keys,
    example_weights,
    report_means,
)
from .text import language_model, shifted, translation
from .variational import (
    BINARIZATIONS,
    LIKELIHOODS,
    binarize,
    decode_images,
    encode_images,
    importance_weighted_bound,
    variational_autoencoder,
)

__all__ = [
    "BACKGROUND",
    "BINARIZATIONS",
    "DISCRIMINATOR",
    "GENERATOR",
    "IGNORED",
    "LIKELIHOODS",
    "Assignment",
    "Aux",
    "Batch",
    "DetectionWeights",
    "Evaluation",
    "Found",
    "Game",
    "Hyper",
    "Mean",
    "RowEvaluation",
    "Task",
    "Variables",
    "adversarial",
    "assign_anchors",
    "assign_cells",
    "binarize",
    "classification",
    "codes_to_images",
    "decode_images",
    "denoising",
    "detection",
    "encode_images",
    "evaluation",
    "example_keys",
    "example_weights",
    "find_objects",
    "images_to_codes",
    "importance_weighted_bound",
    "language_model",
    "panoptic_truth",
    "player_variables",
    "predictor",
    "report_means",
    "sample_generator",
    "segmentation",
    "shifted",
    "translation",
    "variational_autoencoder",
    "vector_quantized",
]
