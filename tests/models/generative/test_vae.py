"""Variational autoencoders: shapes, parameters counted by hand, and what encode, draw and decode must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.generative import ConvVAE, DenseVAE, reparameterize

SMALL = {
    "dense": DenseVAE(image_shape=(8, 12, 3), latent=5, hidden=(20, 10)),
    "conv": ConvVAE(image_shape=(8, 12, 3), latent=5, features=(6, 10)),
}


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (4, 8, 12, 3), minval=-1.0)


@pytest.fixture(scope="module", params=SMALL)
def model(request):
    return SMALL[request.param]


@pytest.fixture(scope="module")
def variables(model, images):
    return jax.jit(model.init)(jax.random.key(0), images)


def test_dense_parameters_are_those_of_the_formula():
    d, h, k, latent = 28 * 28, 500, 200, 20
    encoder = (d + 1) * h + (h + 1) * k + (k + 1) * 2 * latent
    decoder = (latent + 1) * k + (k + 1) * h + (h + 1) * d
    model = DenseVAE(image_shape=(28, 28, 1), latent=latent, hidden=(h, k))
    assert models.count_parameters(model, (28, 28, 1)) == encoder + decoder


def test_convolutional_parameters_are_those_of_the_formula():
    latent, cells = 16, (32 // 8) * (40 // 8)
    encoder = (9 * 3 + 1) * 8 + (9 * 8 + 1) * 16 + (9 * 16 + 1) * 24 + (24 * cells + 1) * 2 * latent
    decoder = (latent + 1) * 24 * cells + (9 * 24 + 1) * 16 + (9 * 16 + 1) * 8 + (9 * 8 + 1) * 8 + (9 * 8 + 1) * 3
    model = ConvVAE(image_shape=(32, 40, 3), latent=latent, features=(8, 16, 24))
    assert models.count_parameters(model, (32, 40, 3)) == encoder + decoder


def test_outputs_have_the_images_shape_and_are_the_decoded_posterior_mean(model, variables, images):
    outputs, mean, log_variance = model.apply(variables, images)
    assert (outputs.shape, mean.shape, log_variance.shape) == (images.shape, (4, 5), (4, 5))
    np.testing.assert_array_equal(model.apply(variables, images, method="encode")[1], log_variance)
    np.testing.assert_array_equal(model.apply(variables, mean, method="decode"), outputs)


def test_examples_do_not_see_each_other(model, variables, images):
    outputs, mean, _ = model.apply(variables, images)
    alone, its_mean, _ = model.apply(variables, images[2:3])
    np.testing.assert_allclose(its_mean[0], mean[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone[0], outputs[2], rtol=1e-5, atol=1e-6)


def test_every_parameter_gets_a_gradient_through_the_draw(model, variables, images):
    def loss(variables):
        mean, log_variance = model.apply(variables, images, method="encode")
        z = reparameterize(mean, log_variance, jax.random.normal(jax.random.key(2), mean.shape))
        return (model.apply(variables, z, method="decode") ** 2).sum()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables)):
        assert float(jnp.abs(leaf).max()) > 0, path


def test_in_bfloat16_outputs_are_float32_and_near_those_of_float32(model, variables, images):
    small = model.clone(dtype=jnp.bfloat16)
    for ours, expected in zip(small.apply(variables, images), model.apply(variables, images), strict=True):
        assert ours.dtype == jnp.float32
        # bfloat16 has 8 bits of fraction; a few layers lose a few of them.
        np.testing.assert_allclose(ours, expected, atol=2**-4 * np.abs(expected).max())


def test_without_hidden_layers_the_model_is_linear(images):
    model = DenseVAE(image_shape=(8, 12, 3), latent=5, hidden=())
    variables = model.init(jax.random.key(0), images)
    z = jax.random.normal(jax.random.key(1), (2, 5))
    decode = lambda z: model.apply(variables, z, method="decode")
    between = decode((0.3 * z[0] + 0.7 * z[1])[None])
    np.testing.assert_allclose(between[0], 0.3 * decode(z)[0] + 0.7 * decode(z)[1], rtol=1e-4, atol=1e-5)


def test_draws_have_the_moments_that_the_encoder_names():
    mean, log_variance = jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.25, 9.0]))
    draws = reparameterize(mean, log_variance, jax.random.normal(jax.random.key(0), (100_000, 2)))
    # Five standard errors of a mean, σ/√n, and of a deviation, σ/√(2n).
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * 3 / 100_000**0.5)
    np.testing.assert_allclose(draws.std(0), [0.5, 3], rtol=5 / 200_000**0.5)


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 30, 1)])
def test_sizes_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(ValueError, match=r"multiples of 4; image_shape is \(\d+, \d+, 1\)"):
        ConvVAE(image_shape=shape).init(jax.random.key(0), jnp.zeros((1, *shape)))


def test_a_convolutional_model_without_convolutions_is_refused():
    with pytest.raises(ValueError, match="at least once"):
        ConvVAE(features=()).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DenseVAE(latent=0), "latent is 0"),
        (DenseVAE(hidden=(8, -1)), r"hidden is \(8, -1\)"),
        (ConvVAE(latent=-1), "latent is -1"),
        (ConvVAE(features=(0, 8)), r"features is \(0, 8\)"),
    ],
)
def test_widths_that_are_not_positive_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


def test_images_and_latents_of_another_shape_are_refused(model, variables, images):
    with pytest.raises(ValueError, match=r"\[batch, 8, 12, 3\].*\(4, 12, 8, 3\)"):
        model.apply(variables, images.swapaxes(1, 2))
    with pytest.raises(ValueError, match=r"\[batch, 5\].*\(4, 6\)"):
        model.apply(variables, jnp.zeros((4, 6)), method="decode")
