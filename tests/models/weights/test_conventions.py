"""Images are prepared for published weights as torchvision's and timm's own configurations say."""

import pytest
from etude.models import weights


@pytest.mark.parametrize(
    ("model", "size", "crop", "mean", "interpolation"),
    [
        ("resnet50", 224, 224 / 256, 0.485, "bilinear"),
        ("wrn28_10", 224, 224 / 256, 0.485, "bilinear"),
        ("vgg16", 224, 224 / 256, 0.485, "bilinear"),
        # timm 1.0.31: timm.models.get_pretrained_cfg(name)
        ("resnet50d", 224, 224 / 256, 0.485, "bicubic"),
        ("resnet101d", 256, 0.95, 0.485, "bicubic"),
        ("resnet152d", 256, 0.95, 0.485, "bicubic"),
        ("preact_resnet18", 224, 0.9, 0.5, "bicubic"),
        ("preact_resnet50", 224, 0.95, 0.5, "bicubic"),
        ("vit_base_patch16_224", 224, 0.9, 0.5, "bicubic"),
        ("vit_base_patch16_384", 384, 1.0, 0.5, "bicubic"),
        ("vit_large_patch32_384", 384, 1.0, 0.5, "bicubic"),
        ("deit_small_patch16_224", 224, 0.9, 0.485, "bicubic"),
        ("deit_base_patch16_384", 384, 1.0, 0.485, "bicubic"),
        ("vit_micro_patch2_8", 8, 0.9, 0.5, "bicubic"),
    ],
)
def test_each_model_is_shown_images_as_it_was_trained_on_them(model, size, crop, mean, interpolation):
    usual = weights.convention(model)
    assert (usual.size, usual.crop, usual.mean[0], usual.interpolation) == (size, crop, mean, interpolation)
