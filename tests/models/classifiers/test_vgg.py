"""VGG: published counts, torchvision's answers, and small images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from etude import models
from etude.models.classifiers import vgg

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg11_bn", 132_868_840),
        ("vgg13_bn", 133_053_736),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
    ],
)
def test_networks_have_the_published_number_of_parameters(name, count):
    assert models.count_parameters(models.create(name), (224, 224, 3)) == count


@pytest.mark.parametrize(("name", "mode"), [("vgg11", "eval"), ("vgg11_bn", "eval"), ("vgg11_bn", "train")])
def test_logits_and_every_gradient_norm_agree_with_torchvision(name, mode):
    golden = np.load(GOLDEN / "torchvision_vgg.npz")
    parity.check(golden, name, mode, "float32", dropout=0.0, hidden=(96, 80))


def test_the_usual_network_for_small_images_has_a_linear_head():
    model = models.create("vgg11_bn", num_classes=10, hidden=(), grid=1)
    assert models.count_parameters(model, (32, 32, 3)) == 9_231_114  # convolutions, BatchNorms and 512·10 + 10


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 8, 1), (28, 28, 1), (33, 17, 3)])
@pytest.mark.parametrize("name", ["vgg13", "vgg11_bn"])
def test_any_image_shape_gives_float32_logits(name, shape):
    model = models.create(name, num_classes=7, hidden=(16,), grid=2, dtype=jnp.bfloat16)
    logits = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], jnp.zeros((2, *shape)))
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


def test_dropout_is_off_at_prediction_and_drawn_in_training():
    model = vgg.VGG(3, stages=((4,), (4,)), hidden=(32, 32), grid=2)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = parity.variables_by_rule(model, x.shape[1:])
    logits = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}))
    first, again, other = (logits(jax.random.key(seed, impl="unsafe_rbg")) for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    undropped = model.clone(dropout=0.0)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, x), jax.jit(undropped.apply)(variables, x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.create("vgg12"), "no model 'vgg12'"),
        (lambda: vgg.vgg(12), "depth is 12; VGG has depths 11, 13, 16, 19"),
        (lambda: models.create("vgg11").init(jax.random.key(0), jnp.zeros((8, 8, 1))), "height, width, channel"),
        (lambda: models.count_parameters(vgg.VGG(0), (8, 8, 1)), "num_classes of at least 1; it is 0"),
        (lambda: models.count_parameters(vgg.VGG(hidden=(4, 0)), (8, 8, 1)), r"hidden of at least 1; it is \(4, 0\)"),
        (lambda: models.count_parameters(vgg.VGG(grid=0), (8, 8, 1)), "grid of at least 1; it is 0"),
    ],
)
def test_wrong_depths_sizes_and_ranks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
