"""Give every pixel a class and an id: objects by a detector with masks, and the stuff around them.

One network finds objects with their masks (`etude instance_segmentation`) and names the class of every pixel; the
objects are put over the stuff, the surest first (Kirillov et al. 2019: "Panoptic Segmentation"). A learning-rate range
test chooses the peak rate; the checkpoint of the best validation loss is measured once on the held-out test split.
Answer: result.json's "test_pq", "test_sq" and "test_rq": panoptic, segmentation and recognition quality.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import data, lab, plots
from . import detection, instance_segmentation

SHOWN = 8  # images of the figure
NEEDS = instance_segmentation.NEEDS | {"num_semantic": "classes of pixels"}


@dataclass(frozen=True)
class Config(detection.Config):
    """Any detector with masks and classes of pixels by its name."""

    network: detection.NetworkOptions = detection.NetworkOptions("grid_detector_panoptic")
    fusion: lab.FusionOptions = lab.FusionOptions()


DEMO = lab.override(Config(), **detection.DEMO_OPTIONS | {"epochs": 5})
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", **detection.SMOKE_OPTIONS),
    "demo": DEMO,
    "paper": lab.override(Config(), preset="paper", **detection.PAPER_OPTIONS),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    return detection.train_detector(__file__, config, PRESETS, report, needs=NEEDS, fusion=config.fusion)


def report(found: Sequence[detection.Found], test: data.Source) -> tuple[dict[str, float], dict[str, plots.Figure]]:
    """Panoptic quality on the test split, COCO's numbers, and figures of its first images."""
    values, figures = instance_segmentation.report(found, test)
    scores = [each.numbers for each in lab.panoptic_scores(found, test)]
    values |= detection.named_means(scores, "test_", ("pq",))
    return values, figures | {"panoptic": show(found[0], test)}


def show(found: detection.Found, test: data.Source) -> plots.Figure:
    """The first images of the test split, with their true and predicted segments."""
    examples = test.read(np.arange(min(SHOWN, len(test))))
    classes, ids = lab.panoptic_truth(examples)
    predicted = lab.unpack({name: found[name] for name in ("classes", "ids")}, len(classes))
    return plots.segmentations(
        examples["image"],
        classes,
        predicted["classes"],
        test.classes,
        ids=(ids, predicted["ids"]),
        source=test.attribution,
    )


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
