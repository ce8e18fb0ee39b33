"""Results -> matplotlib figures. Draws, never computes a result; touches no global state of matplotlib.

Names are imported when they are first used, so that only what draws waits for matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import on_first_use

if TYPE_CHECKING:
    from .classification import confusion_matrix, predictions
    from .comparisons import comparison, depths, gaps, race, widths
    from .dense import class_colors, detections, objects_in, segmentations, segments_in
    from .functions import approximation, paths
    from .generation import image_grid, latent_map, loss_curves
    from .rates import gallery, grid_search, range_test, range_tests, schedule
    from .sequences import gradient_decay, lookup, remembered
    from .style import Figure, save
    from .training import compared_curves, convergence, learning_curves
    from .translation import attention_maps, quality_by_length

__all__ = [
    "Figure",
    "approximation",
    "attention_maps",
    "class_colors",
    "compared_curves",
    "comparison",
    "confusion_matrix",
    "convergence",
    "depths",
    "detections",
    "gallery",
    "gaps",
    "gradient_decay",
    "grid_search",
    "image_grid",
    "latent_map",
    "learning_curves",
    "lookup",
    "loss_curves",
    "objects_in",
    "paths",
    "predictions",
    "quality_by_length",
    "race",
    "range_test",
    "range_tests",
    "remembered",
    "save",
    "schedule",
    "segmentations",
    "segments_in",
    "widths",
]

__getattr__ = on_first_use(
    __name__,
    {
        "classification": "confusion_matrix predictions",
        "dense": "class_colors detections objects_in segmentations segments_in",
        "comparisons": "comparison depths gaps race widths",
        "functions": "approximation paths",
        "generation": "image_grid latent_map loss_curves",
        "rates": "gallery grid_search range_test range_tests schedule",
        "sequences": "gradient_decay lookup remembered",
        "style": "Figure save",
        "training": "compared_curves convergence learning_curves",
        "translation": "attention_maps quality_by_length",
    },
)


def __dir__() -> list[str]:
    return __all__
