"""Train a residual network: a range test picks the rate, validation picks the checkpoint, the test is read once.

He et al. 2015, section 4.2, at any scale. A learning-rate range test chooses the peak rate; the network trains
with linear warm-up and cosine decay; the checkpoint of the best validation accuracy is evaluated once on the
held-out test split. Answer: result.json's "test_accuracy"; figures/confusion_matrix.png says where it errs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ._run import Result
from ._training import TrainingConfig, train_classifier


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Any convolutional network by its name."""


PRESETS = {
    "smoke": Config(preset="smoke", epochs=2, range_steps_per_decade=12),
    "demo": Config(preset="demo"),
    "paper": Config(
        preset="paper", data="tfds:cifar10", model="resnet110", epochs=164, batch_size=128, learning_rate=0.1,
        weight_decay=1e-4, shift=4, flip=True, feed="auto", checkpoint_every=1000,
    ),
}  # fmt: skip


def main(config: Config) -> Result:
    """Trains, evaluates and reports."""
    return train_classifier("resnet", config, PRESETS[config.preset])


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("resnet"))
