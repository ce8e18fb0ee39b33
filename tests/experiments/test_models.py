"""`etude models` lists the networks that a pattern fits, with their numbers of parameters."""

import pytest
from etude import models as networks
from etude.experiments import models
from etude.lab import cli


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [
        ("vgg16*", {"vgg16": 138_357_544, "vgg16_bn": 138_365_992}),  # torchvision's
        ("vit_base_patch16_*", {"vit_base_patch16_224": 86_567_656}),  # timm's
        ("vit_base_patch16_384", {"vit_base_patch16_384": 86_859_496}),  # timm's; a member of a family
        ("resnet?0", {"resnet50": 25_557_032, "resnet20": 269_722}),
        ("unet_valid", {"unet_valid": 31_030_658}),  # the paper's, of gray images
        ("dcgan", {"dcgan_generator": 2_132_737, "dcgan_discriminator": 2_637_441}),
    ],
)
def test_networks_are_listed_with_their_published_numbers_of_parameters(pattern, counts, capsys):
    assert models.main(models.Config(pattern)) == counts
    lines = capsys.readouterr().out.splitlines()
    for line, (name, count) in zip(lines, counts.items(), strict=False):
        assert line.split()[:2] == [name, f"{count:,}"]


def test_without_a_pattern_all_are_listed(monkeypatch):
    monkeypatch.setattr(models, "count", lambda name: 1)
    assert tuple(models.main(models.Config())) == networks.names()


def test_a_pattern_that_fits_none_is_answered_with_the_nearest_ten(capsys):
    assert cli.main(["models", "resnet62"]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "Did you mean resnet56?" in text
    assert "resnet32" in text
    assert text.count(",") == 9
    assert "more; etude models lists them." in text
