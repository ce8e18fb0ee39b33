"""Diffusion transformers: the authors' answers, names and sizes, and what depth, remat and dropout must not change."""

from functools import cache, partial
from pathlib import Path

import denoising_parity
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models import pretrained
from etude.models.generative import dit
from etude.models.layers import MultiHeadAttention, sincos2d

GOLDEN = Path(__file__).resolve().parents[2] / "golden"

ANSWERS = np.load(GOLDEN / "dit.npz")
SMALL = {"patch_size": 2, "width": 32, "depth": 2, "num_heads": 4, "num_classes": 3}
IN_GOLDEN = {
    "patch2": dit.DiT(patch_size=2, width=64, depth=2, num_heads=4, num_classes=5, out_channels=8),
    "patch4": dit.DiT(patch_size=4, width=64, depth=2, num_heads=4, num_classes=5),
}


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 12, 1))


@pytest.fixture(scope="module")
def variables(images):
    """Of the small network, by rule: many of its parameters begin at 0."""
    return denoising_parity.variables_by_rule(dit.DiT(**SMALL), images.shape[1:])


@pytest.fixture(scope="module")
def answer(variables, images):
    """(time, labels) -> what the small network answers."""
    return jax.jit(lambda *told: dit.DiT(**SMALL).apply(variables, images, *told))


@pytest.fixture(scope="module")
def gradient(variables, images):
    """Fields -> of the sum of squares, some entries dropped."""

    @cache
    def gradient(**fields):
        def loss(variables):
            told = jnp.array([0.1, 0.7]), jnp.array([0, 2])
            model = dit.DiT(**SMALL, dropout=0.5, **fields)
            y = model.apply(variables, images, *told, train=True, rngs={"dropout": jax.random.key(3)})
            return (y**2).sum()

        return jax.jit(jax.grad(loss))(variables)

    return gradient


@pytest.mark.parametrize("size", dit.SIZES)
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_networks_have_the_authors_names_and_shapes(size, patch):
    model = models.create(f"dit_{size}_patch{patch}", num_classes=1000, out_channels=8)
    empty = jax.tree.map(lambda x: np.broadcast_to(np.int8(0), x.shape), pretrained.template(model, (32, 32, 4)))
    ours = [f"{key} {x.shape}" for key, x in sorted(pretrained.to_torch(model, empty).items())]
    theirs = [line for line in ANSWERS[f"{size}_patch{patch}"] if not line.startswith("pos_embed")]
    assert ours == theirs


def test_the_largest_network_has_675_million_parameters():
    # The authors count the positions of 16·16 patches too, which nothing learns.
    model = models.create("dit_xlarge_patch2", num_classes=1000, out_channels=8)
    assert models.count_parameters(model, (32, 32, 4)) + 16 * 16 * 1152 == 675_129_632


def test_the_largest_network_costs_the_multiply_adds_of_the_paper():
    # 118.6 Gflops (section 4), by which the authors mean multiply-adds.
    model = models.create("dit_xlarge_patch2", num_classes=1000, out_channels=8)
    assert models.count_flops(model, (32, 32, 4)) / 2e9 == pytest.approx(118.6, abs=0.05)


@pytest.mark.parametrize("name", IN_GOLDEN)
def test_the_answer_and_every_gradient_norm_agree_with_the_authors(name):
    denoising_parity.check(ANSWERS, name, IN_GOLDEN[name])


@pytest.mark.parametrize(("name", "grid"), [("patch2", (8, 8)), ("patch4", (4, 4))])
def test_positions_are_the_authors(name, grid):
    np.testing.assert_allclose(sincos2d(grid, 64), ANSWERS[f"{name}_positions"][0], atol=1e-6)


def test_a_file_of_the_authors_is_read_without_its_positions_if_they_are_those_computed(variables):
    model = dit.DiT(**SMALL)
    named = pretrained.to_torch(model, variables)
    positions = np.asarray(sincos2d((3, 3), 32))[None]
    for stored in (positions, positions.astype(np.float16)):
        ours = pretrained.from_torch(model, named | {"pos_embed": stored}, variables)
        jax.tree.map(np.testing.assert_array_equal, ours, variables)
    for stored in (positions + 0.1, positions[:, 1:], positions[:, :, ::-1]):
        with pytest.raises(ValueError, match="pos_embed is not the sines and cosines"):
            pretrained.from_torch(model, named | {"pos_embed": stored}, variables)


def test_patches_are_put_together_as_they_were_cut(images):
    patches = dit.patchify(images, 2)
    np.testing.assert_array_equal(patches[0, 7], images[0, 2:4, 2:4].ravel())  # row 1, column 1 of 6
    np.testing.assert_array_equal(dit.unpatchify(patches, (4, 6), 2), images)


def test_the_network_begins_by_answering_0_and_its_blocks_as_the_identity(images):
    answer, _ = jax.jit(dit.DiT(**SMALL).init_with_output)(jax.random.key(0), images, 0.5)
    np.testing.assert_array_equal(answer, jnp.zeros_like(images))
    x = jax.random.normal(jax.random.key(2), (2, 5, 32))
    answer, _ = jax.jit(partial(dit.Block(4).init_with_output, train=False))(jax.random.key(0), x, jnp.ones((2, 32)))
    np.testing.assert_array_equal(answer, x)


def test_a_block_that_is_told_to_neither_move_nor_gate_is_a_transformers():
    # Given a block whose modulation is shift 0, scale 0, gate 1,
    block, x, told = dit.Block(4), jax.random.normal(jax.random.key(2), (2, 5, 32)), jnp.ones((2, 32))
    params = jax.jit(partial(block.init, train=False))(jax.random.key(0), x, told)["params"]
    params["modulation"]["bias"] = jnp.repeat(jnp.array([0.0, 0, 1, 0, 0, 1]), 32)
    ours = jax.jit(partial(block.apply, train=False))({"params": params}, x, told)

    # then it is attention of the normalized tokens, and a perceptron of the normalized tokens.
    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)

    x = x + jax.jit(MultiHeadAttention(4).apply)({"params": params["attn"]}, normal(x))
    hidden = jax.nn.gelu(normal(x) @ params["fc1"]["kernel"] + params["fc1"]["bias"], approximate=True)
    x = x + hidden @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    np.testing.assert_allclose(ours, x, rtol=1e-4, atol=1e-5)


def test_one_time_for_all_is_that_time_for_each(answer):
    np.testing.assert_allclose(answer(0.3, None), answer(jnp.array([0.3, 0.3]), None), rtol=1e-4, atol=1e-5)


def test_each_image_is_answered_for_its_own_time_and_class(answer):
    one = answer(jnp.array([0.1, 0.2]), jnp.array([0, 1]))
    for other in (answer(jnp.array([0.1, 0.9]), jnp.array([0, 1])), answer(jnp.array([0.1, 0.2]), jnp.array([0, 2]))):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-4, atol=1e-5)
        assert np.abs(one[1] - other[1]).max() > 0.01


def test_no_labels_are_the_class_after_the_last(answer):
    np.testing.assert_allclose(answer(0.3, None), answer(0.3, jnp.array([3, 3])), rtol=1e-4, atol=1e-5)
    assert np.abs(answer(0.3, None) - answer(0.3, jnp.array([2, 2]))).max() > 0.01


def test_remat_gives_the_same_gradients(gradient):
    for one, other in zip(jax.tree.leaves(gradient(remat=True)), jax.tree.leaves(gradient()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_a_population_of_rates_of_dropout_equals_each_alone(variables, images):
    def dropped(rate):
        model = dit.DiT(**SMALL, dropout=rate)
        return model.apply(variables, images, 0.3, train=True, rngs={"dropout": jax.random.key(3)})

    together = jax.jit(jax.vmap(dropped))(jnp.array([0.0, 0.5]))
    for i, rate in enumerate([0.0, 0.5]):
        np.testing.assert_allclose(together[i], jax.jit(partial(dropped, rate))(), rtol=1e-4, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_nothing_is_dropped_at_prediction(variables, images, answer):
    dropping = jax.jit(dit.DiT(**SMALL, dropout=jnp.float32(0.9)).apply)(variables, images, 0.3)
    np.testing.assert_allclose(dropping, answer(0.3, None), rtol=1e-4, atol=1e-5)


def test_in_bfloat16_answers_are_float32_and_near_those_of_float32(variables, images, answer):
    y = jax.jit(dit.DiT(**SMALL, dtype=jnp.bfloat16).apply)(variables, images, 0.3)
    assert y.dtype == jnp.float32
    expected = answer(0.3, None)
    # bfloat16 has 8 bits of fraction; a few layers lose a few of them.
    np.testing.assert_allclose(y, expected, atol=2**-4 * np.abs(expected).max())


def test_every_parameter_gets_a_gradient(gradient):
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient()):
        assert float(jnp.abs(leaf).max()) > 0, path
    used = np.abs(gradient()["params"]["conditioning"]["classes"]).max(1) > 0
    np.testing.assert_array_equal(used, [True, False, True, False])


def test_the_program_of_a_training_step_does_not_grow_with_depth():
    def equations(depth):
        model = dit.DiT(**SMALL | {"depth": depth})
        x = jnp.zeros((2, 8, 8, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), x, 0.5)
        return str(jax.make_jaxpr(jax.grad(lambda v: model.apply(v, x, 0.5).sum()))(variables)).count(" = ")

    assert equations(48) == equations(4)


@pytest.mark.parametrize(
    ("fields", "shape", "told", "message"),
    [
        ({}, (2, 7, 8, 1), (0.5,), r"7×8 pixels.*2×2"),
        ({}, (8, 8, 1), (0.5,), r"batch, height, width, channel.*\(8, 8, 1\)"),
        ({"num_heads": 5}, (2, 8, 8, 1), (0.5,), "width of 32 cannot be cut into 5 heads"),
        ({"patch_size": 0}, (2, 8, 8, 1), (0.5,), "patch_size of at least 1; it is 0"),
        ({"num_heads": 0}, (2, 8, 8, 1), (0.5,), "num_heads of at least 1; it is 0"),
        ({"width": 0}, (2, 8, 8, 1), (0.5,), "width of at least 1; it is 0"),
        ({"depth": -1}, (2, 8, 8, 1), (0.5,), "depth of at least 1; it is -1"),
        ({"width": 30, "num_heads": 3}, (2, 8, 8, 1), (0.5,), "multiple of 4; it is 30"),
        ({"dropout": 1.5}, (2, 8, 8, 1), (0.5,), r"rate of dropout is 1\.5"),
        ({}, (2, 8, 8, 1), (jnp.zeros(3),), r"time must be one number or have shape \(2,\).*\(3,\)"),
        ({}, (2, 8, 8, 1), (0.5, jnp.zeros(2)), "labels must be integers.*float32"),
        ({"num_classes": None}, (2, 8, 8, 1), (0.5, jnp.zeros(2, int)), "knows no classes"),
    ],
)
def test_wrong_fields_images_times_and_labels_are_refused(fields, shape, told, message):
    model = dit.DiT(**SMALL | fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(model.init, train=True), jax.random.key(0), jnp.zeros(shape), *told)


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="'tiny'; valid are: small, base, large, xlarge"):
        dit.sized("tiny", 2)
