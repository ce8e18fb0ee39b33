"""Operations counted from shapes, against published numbers and closed forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from etude import models
from etude.models import layers
from etude.models.classifiers import mlp, vit

IMAGE = (224, 224, 3)


class Calls(nn.Module):
    """A function as a network, of a vector or an image."""

    function: object

    @nn.compact
    def __call__(self, x, *, train=False):
        return self.function(x)


def flops(function, *shape):
    return models.count_flops(Calls(function), shape)


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        # Multiply-adds in 10⁹, as torchvision's weights have them ("_ops"); of attention, both products are in it.
        ("alexnet", 0.714),
        ("vgg16", 15.47),
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("vit_base_patch16_224", 17.564),
        ("vit_huge_patch14_224", 167.295),
    ],
)
def test_a_network_costs_the_multiply_adds_that_are_published(name, giga):
    # Published to three digits after the point; adaptive pooling is in ours alone, 0.0004 of them.
    assert models.count_flops(models.create(name), IMAGE) / 2e9 == pytest.approx(giga, abs=1e-3)


def test_a_vision_transformer_costs_its_closed_form():
    tokens, width, depth = 14 * 14 + 1, 192, 12
    block = 12 * tokens * width**2 + 2 * tokens**2 * width  # projections and MLP, the two products of attention
    ends = (tokens - 1) * 16 * 16 * 3 * width + width * 1000
    assert models.count_flops(models.create("vit_tiny_patch16_224"), IMAGE) == 2 * (depth * block + ends)


def test_a_network_without_convolutions_costs_two_for_each_weight():
    model = mlp.MLP(num_classes=10, hidden=(16, 8))
    assert models.count_flops(model, (5,)) == 2 * (5 * 16 + 16 * 8 + 8 * 10)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_costs_outputs_times_taps_times_the_channels_of_a_group(groups):
    conv = layers.Conv(24, kernel_size=3, stride=2, groups=groups)
    assert models.count_flops(Calls(conv), (9, 7, 16)) == 2 * (5 * 4 * 24) * 9 * (16 // groups)


def test_a_dilated_kernel_costs_its_taps_and_not_its_extent():
    conv = nn.Conv(4, (3, 3), kernel_dilation=2, padding="VALID")
    assert models.count_flops(Calls(conv), (9, 9, 2)) == 2 * (5 * 5 * 4) * 9 * 2


def test_a_transposed_convolution_costs_as_much_as_the_convolution_it_transposes():
    down = nn.Conv(6, (2, 2), strides=2, padding="VALID")
    up = nn.ConvTranspose(3, (2, 2), strides=(2, 2), padding="VALID")
    assert models.count_flops(Calls(down), (8, 8, 3)) == 2 * (4 * 4 * 6) * 4 * 3
    assert models.count_flops(Calls(up), (4, 4, 6)) == 2 * (4 * 4 * 6) * 4 * 3


def test_twice_the_depth_of_a_scanned_stack_costs_its_blocks_twice():
    def cost(depth, **fields):
        return models.count_flops(vit.ViT(patch_size=4, width=8, depth=depth, num_heads=2, **fields), (8, 8, 3))

    ends = cost(3) - 3 * (cost(4) - cost(3))
    assert cost(6) - ends == 2 * (cost(3) - ends) > 0
    assert cost(6, remat=True) == cost(6)


def test_what_is_called_is_counted_wherever_it_is_called_from():
    @jax.custom_vjp
    def square(x):
        return x @ x

    square.defvjp(lambda x: (square(x), x), lambda x, g: (2 * x * g,))
    once = 2 * 4**3
    assert flops(square, 4, 4) == flops(jax.checkpoint(square), 4, 4) == flops(jax.jit(square), 4, 4) == once
    assert flops(lambda x: jax.lax.fori_loop(0, 5, lambda i, y: square(y), x), 4, 4) == 5 * once


def test_of_alternatives_the_dearest_is_counted():
    def choose(x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

    assert flops(choose, 4, 4) == 2 * 2 * 4**3


def test_a_loop_that_the_data_end_is_refused_only_where_it_computes_products():
    def until_small(step):
        return lambda x: jax.lax.while_loop(lambda y: jnp.abs(y).max() > 1, step, x)

    assert flops(until_small(lambda y: y / 2), 4, 4) == 0
    with pytest.raises(ValueError, match="depends on the data"):
        flops(until_small(lambda y: y @ y), 4, 4)


def test_half_precision_costs_as_many_operations():
    halves = models.create("vit_micro_patch2_8", dtype=jnp.bfloat16)
    assert models.count_flops(halves, (8, 8, 1)) == models.count_flops(models.create("vit_micro_patch2_8"), (8, 8, 1))


def test_fifty_hidden_layers_as_wide_as_an_image_are_counted():
    width = 224 * 224 * 3
    model = mlp.MLP(num_classes=1000, hidden=(width,) * 50)
    assert models.count_flops(model, IMAGE) == 2 * (50 * width**2 + 1000 * width)


@pytest.mark.parametrize("shape", [(), (1, *IMAGE), (8, 0, 1), (-6,)])
def test_a_shape_that_is_no_input_is_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape is .* without a batch"):
        models.count_flops(models.create("mlp"), shape)
