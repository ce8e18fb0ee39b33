"""Find the objects in images with their masks: prototypes of the whole image, weighed by coefficients of each object.

A grid detector (`etude detection`) whose cells give the coefficients of a mask beside class and box (Bolya et al.
2019: "YOLACT"). A learning-rate range test chooses the peak rate; the checkpoint of the best validation loss is
measured once on the held-out test split. Answer: result.json's "test_mask_map50" and "test_mask_map", COCO's mean
average precision of the masks, beside that of the boxes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .. import data, lab, plots
from . import detection

NEEDS = {"num_prototypes": "masks"}


@dataclass(frozen=True)
class Config(detection.Config):
    """Any detector with masks by its name."""

    network: detection.NetworkOptions = detection.NetworkOptions("grid_detector_masks")


DEMO = lab.override(Config(), **detection.DEMO_OPTIONS)
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", **detection.SMOKE_OPTIONS),
    "demo": DEMO,
    "paper": lab.override(Config(), preset="paper", **detection.PAPER_OPTIONS),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    return detection.train_detector(__file__, config, PRESETS, report, needs=NEEDS)


def report(found: Sequence[detection.Found], test: data.Source) -> tuple[dict[str, float], dict[str, plots.Figure]]:
    """COCO's numbers of the masks and boxes of the test split, and a figure of its first images."""
    values = detection.coco_scores(found, test, "boxes") | detection.coco_scores(found, test, "masks")
    return values, {"instances": detection.show(found[0], test, ("boxes", "labels", "masks"))}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
