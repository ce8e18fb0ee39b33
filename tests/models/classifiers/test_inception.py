"""The FID network: pytorch-fid's answers, the published names and count, and the resize pixel by pixel."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from etude import losses, models
from etude.models import pretrained
from etude.models.classifiers import inception
from safetensors.numpy import save_file
from weights import weight

HERE = Path(__file__).resolve().parents[2] / "golden"
GOLDEN = np.load(HERE / "fid_inception.npz")
VARIANCE = 0.4  # of the script that made the file
SHAPE = (299, 299, 3)


def network(precision="float32", **fields):
    return inception.FIDInception(dtype=jnp.dtype(precision), param_dtype=jnp.dtype(precision), **fields)


def variables_by_rule(model, precision="float32"):
    def scaled(path, x):
        return (x * np.float32(VARIANCE)).astype(precision) if path[-1].key == "var" else x

    return jax.tree_util.tree_map_with_path(scaled, parity.variables_by_rule(model, SHAPE, precision))


def error(answer, expected):
    """Greatest one, relative to the greatest answer."""
    return np.abs(np.asarray(answer) - expected).max() / np.abs(expected).max()


def test_features_and_logits_agree_with_pytorch_fid():
    model = network(logits=True)
    apply = jax.jit(partial(model.apply, capture_intermediates=lambda module, _: module.name == "Mixed_7c"))
    logits, seen = apply(variables_by_rule(model), GOLDEN["images"])
    features = seen["intermediates"]["Mixed_7c"]["__call__"][0].mean((1, 2))
    # float32 through 48 layers: 1e-6. What images tell apart is a twentieth of the features.
    assert error(features, GOLDEN["eval_features"]) < 1e-5
    assert error(logits, GOLDEN["eval_logits"]) < 1e-5
    assert error(features[0], GOLDEN["eval_features"][1]) > 1e-2


@pytest.mark.slow  # 48 layers in float64, on 299×299 pixels
def test_logits_in_training_and_every_gradient_norm_agree_with_pytorch_fid():
    # In float64: with the statistics of two images' 8×8 pixels, float32's rounding grows to 1e-3.
    with jax.enable_x64(True):
        model = network("float64", logits=True)
        variables = variables_by_rule(model, "float64")

        @jax.jit
        @partial(jax.grad, has_aux=True)
        def gradient(params):
            logits, _ = model.apply(
                variables | {"params": params}, GOLDEN["images"], train=True, mutable=["batch_stats"]
            )
            return losses.cross_entropy(logits, jnp.array([3, 141])).mean(), logits

        gradients, logits = gradient(variables["params"])
        gradients = pretrained.to_torch(model, {"params": gradients})
    assert error(logits, GOLDEN["train_logits"]) < 1e-6
    assert sorted(gradients) == sorted(GOLDEN["gradient_names"])
    norms = [np.linalg.norm(gradients[name]) for name in GOLDEN["gradient_names"]]
    np.testing.assert_allclose(norms, GOLDEN["gradient_norms"], rtol=1e-5)  # the loss is float32


def test_the_network_returns_features_whose_logits_are_the_other_answer():
    model = network()
    sizes = [
        jax.eval_shape(lambda x, m=m: m.init_with_output(jax.random.key(0), x)[0], jnp.zeros((2, 9, 7, 3), jnp.uint8))
        for m in (model, model.clone(logits=True), network("bfloat16"))
    ]
    assert [(size.shape, size.dtype) for size in sizes] == [
        ((2, 2048), jnp.float32),
        ((2, 1008), jnp.float32),
        ((2, 2048), jnp.float32),
    ]


def test_parameters_are_as_many_as_published_and_have_the_published_names():
    model = network()
    # torchvision's inception_v3 without auxiliary head has 23,834,568 at 1000 classes.
    assert models.count_parameters(model, SHAPE) == 23_834_568 + 8 * 2049
    template = pretrained.template(model, SHAPE)
    empty = jax.tree.map(lambda x: np.broadcast_to(np.int8(0), x.shape), template)
    ours = [f"{name} {array.shape}" for name, array in pretrained.to_torch(model, empty).items()]
    assert sorted(ours) == list(GOLDEN["names"])


def test_a_converted_file_of_the_published_weights_is_loaded(tmp_path):
    shapes = [line.split(" ", 1) for line in GOLDEN["names"]]
    state = {name: weight(name, tuple(map(int, shape.strip("(),").split(",")))) for name, shape in shapes}
    state["Mixed_5b.branch1x1.bn.num_batches_tracked"] = np.array(0)  # torch counts, and saves, batches
    save_file(state, tmp_path / "weights.safetensors")
    loaded = pretrained.load(network(), tmp_path / "weights.safetensors", SHAPE)
    jax.tree.map(np.testing.assert_array_equal, loaded, parity.variables_by_rule(network(), SHAPE))


def test_weights_of_another_number_of_classes_are_refused():
    published, ten = (pretrained.template(network(num_classes=n), SHAPE) for n in (1008, 10))
    state = pretrained.to_torch(network(), jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), published))
    with pytest.raises(ValueError, match=r"of another shape: fc\.bias \(1008,\) for \(10,\)"):
        pretrained.from_torch(network(num_classes=10), state, ten)


def interpolated(image, new):
    """A line of pixels [old] at new places: the two nearest, weighed by their distances; the border repeats."""
    old = len(image)
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(places.astype(int), old - 2)
    return image[left] * (1 - (places - left)) + image[left + 1] * (places - left)


@pytest.mark.parametrize(("height", "width"), [(7, 1000), (299, 28), (298, 300)])
def test_the_resize_reads_the_two_nearest_pixels_of_each_axis_also_where_it_shrinks(height, width):
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    expected = np.apply_along_axis(interpolated, 1, image / 255, 299)
    expected = 2 * np.apply_along_axis(interpolated, 2, expected, 299) - 1
    with jax.enable_x64(True):
        np.testing.assert_allclose(inception.normalized(jnp.asarray(image), jnp.float64), expected, atol=1e-12)
    # In float32 a place of 300 or 1000 is known to 3e-5 or 6e-5 of a pixel, in PyTorch too.
    for dtype in (jnp.uint8, jnp.float32):
        np.testing.assert_allclose(inception.normalized(jnp.asarray(image, dtype)), expected, atol=3e-4)


def test_images_of_the_networks_size_are_only_scaled():
    ramp = jnp.broadcast_to(jnp.linspace(0, 255, 299)[:, None, None], (1, *SHAPE))
    expected = jnp.broadcast_to(jnp.linspace(-1, 1, 299)[:, None, None], (1, *SHAPE))
    np.testing.assert_allclose(inception.normalized(ramp), expected, atol=1e-6)


def test_means_count_the_pixels_that_there_are_and_maxima_ignore_padding():
    x = jnp.full((1, 3, 3, 1), -1.0).at[0, 0, 0].set(-9)
    np.testing.assert_allclose(inception.means(x)[0, ..., 0], [[-3, -14 / 6, -1], [-14 / 6, -17 / 9, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(inception.maxima(x), -jnp.ones_like(x))


def test_normalization_has_an_epsilon_of_a_thousandth_and_training_moves_its_averages():
    layer = inception.ConvNorm(inception.Convolution("one", 1, 1, 1))
    x = 1 + 0.01 * jax.random.normal(jax.random.key(0), (4, 5, 6, 1))
    variables = {
        "params": {"kernel": jnp.ones((1, 1, 1, 1)), "bn": {"scale": jnp.ones(1), "bias": jnp.full(1, 9.0)}},
        "batch_stats": {"bn": {"mean": jnp.ones(1), "var": jnp.zeros(1)}},
    }
    np.testing.assert_allclose(layer.apply(variables, x, False), 9 + (x - 1) / np.sqrt(1e-3), rtol=1e-4)
    y, moved = layer.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, 9 + (x - x.mean()) / np.sqrt(x.var() + 1e-3), rtol=1e-4)
    np.testing.assert_allclose(moved["batch_stats"]["bn"]["mean"], 0.9 + 0.1 * x.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jnp.zeros((28, 28, 3)), r"\[batch, height, width, 3\]; .* \(28, 28, 3\)"),
        (jnp.zeros((1, 28, 28, 1)), r"\[batch, height, width, 3\]; .* \(1, 28, 28, 1\)"),
        (jnp.zeros((1, 28, 28, 3), int), r"uint8, or of a float type in \[0, 255\]; got int32"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network().init, jax.random.key(0), images)
