"""Train a Vision Transformer: a range test picks the rate, validation picks the checkpoint, the test is read once.

Dosovitskiy et al. 2021, at any scale: small images are cut into small patches. The procedure is that of `resnet`; AdamW
with warm-up and cosine decay, stochastic depth and more augmentation make up for what a transformer does not know of
images. Answer: result.json's "test_accuracy"; figures/confusion_matrix.png says where it errs.
"""

from __future__ import annotations

import sys

from .. import lab
from .resnet import Config, train_classifier

DEMO = lab.override(
    Config(),
    model="vit_micro_patch2_8",
    epochs=60,
    optimizer="adamw",
    weight_decay=0.05,
    clip_norm=1.0,
    drop_path=0.1,
    range_lowest=1e-5,
    range_highest=1.0,
)
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", epochs=2, range_steps_per_decade=12),
    "demo": DEMO,
    # Steiner et al. 2022 ("How to train your ViT?"), table 1: 300 epochs of batches of 4096 at a rate of 1e-3.
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:imagenet2012",
        image_size=224,
        model="vit_small_patch16_224",
        epochs=300,
        batch_size=4096,
        learning_rate=1e-3,
        weight_decay=0.1,
        flip=True,
        random_augment=0.5,
        mixup=0.2,
        dtype="bfloat16",
        parallel="data",
        checkpoint_every=1000,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains, evaluates and reports."""
    return train_classifier("vit", config, PRESETS)


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
