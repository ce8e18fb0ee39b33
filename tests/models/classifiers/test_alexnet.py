"""AlexNet: published counts, torch's answers, and pooling and normalization against sums written out."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from etude import models
from etude.models import layers
from etude.models.classifiers import alexnet

GOLDEN = Path(__file__).resolve().parents[2] / "golden"

# Compiling takes a tenth of the time that it takes with JAX's default generator.
KEY = jax.random.key(2, impl="unsafe_rbg")
SMALL: dict = {"num_classes": 3, "features": (4, 8, 6, 6, 4), "hidden": (8, 7), "grid": 2}


@pytest.mark.parametrize(("name", "count"), [("alexnet", 61_100_840), ("alexnet_original", 60_965_224)])
@pytest.mark.parametrize("size", [224, 227])
def test_networks_have_the_published_number_of_parameters(name, count, size):
    assert models.count_parameters(models.create(name), (size, size, 3)) == count


@pytest.mark.parametrize("size", [224, 227])
@pytest.mark.parametrize("name", ["alexnet", "alexnet_original"])
def test_images_of_the_papers_size_leave_a_grid_of_six_by_six_that_is_not_averaged(name, size):
    kernel = jax.eval_shape(models.create(name, grid=None).init, jax.random.key(0), jnp.zeros((1, size, size, 3)))[
        "params"
    ]["head"]["dense1"]["kernel"]
    assert kernel.shape == (6, 6, 256, 4096)


@pytest.mark.parametrize(("name", "mode"), [("alexnet", "eval"), ("alexnet_original", "train")])
def test_logits_and_every_gradient_norm_agree_with_torch(name, mode):
    golden = np.load(GOLDEN / "torchvision_alexnet.npz")
    parity.check(golden, name, mode, "float32", dropout=0.0, hidden=(96, 80))


@pytest.mark.parametrize(("height", "width"), [(13, 6), (3, 20), (1, 7)])
def test_adaptive_pooling_is_torchs_above_and_below_its_size(height, width):
    ramp = jnp.arange(height * width, dtype=jnp.float32).reshape(1, height, width, 1)
    expected = np.load(GOLDEN / "torchvision_alexnet.npz")[f"pooled_{height}_{width}"]
    np.testing.assert_allclose(layers.adaptive_average_pool(ramp, 6)[0, ..., 0], expected, rtol=1e-6)


def test_adaptive_pooling_leaves_a_grid_of_its_size_as_it_is():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.bfloat16)
    np.testing.assert_array_equal(layers.adaptive_average_pool(x, 6), x)


def test_response_norm_divides_by_the_sum_of_squares_of_the_five_channels_around():
    x = np.asarray(10 * jax.random.normal(jax.random.key(0), (2, 3, 3, 7)))
    expected = np.empty_like(x)
    for i in range(7):
        around = (x[..., max(0, i - 2) : i + 3].astype(np.float64) ** 2).sum(-1)
        expected[..., i] = x[..., i] / (2 + 1e-4 * around) ** 0.75
    np.testing.assert_allclose(layers.local_response_norm(jnp.asarray(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("first_dropped", [0, 1])
def test_dropout_is_drawn_in_training_and_a_population_of_rates_equals_each_alone(first_dropped):
    model = alexnet.AlexNet(**SMALL, first_dropped=first_dropped)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = parity.variables_by_rule(model, x.shape[1:])

    @jax.jit
    def logits(rate):
        return model.clone(dropout=rate).apply(variables, x, train=True, rngs={"dropout": KEY})

    together = jax.vmap(logits)(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(together[0], jax.jit(model.apply)(variables, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together[1], logits(0.5), rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[0], together[1])


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 17, 3)])
def test_small_images_give_float32_logits_of_bfloat16_networks(shape):
    model = models.create("alexnet_original", num_classes=7, hidden=(), grid=1, dtype=jnp.bfloat16)
    logits = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], jnp.zeros((2, *shape)))
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.create("alexnet").init(jax.random.key(0), jnp.zeros((1, 6, 9, 3))), "at least 7×7"),
        (lambda: models.create("alexnet").init(jax.random.key(0), jnp.zeros((9, 9, 3))), "height, width, channel"),
        (lambda: layers.local_response_norm(jnp.zeros((1, 1, 1, 8)), size=4), "size is 4"),
        (lambda: models.create("alexnet", width=3), "no field width"),
    ],
)
def test_wrong_shapes_sizes_and_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
