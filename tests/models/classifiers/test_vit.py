"""Vision transformers: the published parameter counts, timm's answers, and what depth and remat must not change."""

import math
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses, models
from etude.models.classifiers import vit
from etude.models.layers import interpolate_positions, sincos, sincos2d
from etude.models.weights import vit_names
from weights import inputs, weight

GOLDEN = Path(__file__).resolve().parents[2] / "golden"

SMALL = {"num_classes": 5, "patch_size": 4, "width": 32, "depth": 3, "num_heads": 4}


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 12, 3))


@pytest.fixture(scope="module")
def variables(images):
    """Of the small network, moved away from where it begins: many of its parameters are 0 there."""
    variables = jax.jit(vit.ViT(**SMALL).init)(jax.random.key(0), images)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


# Models are static, so that equal ones share their programs.
@partial(jax.jit, static_argnums=0)
def gradient(model, variables, images, **rngs):
    """Of the sum of squared logits."""
    return jax.grad(lambda v: (model.apply(v, images, train=True, rngs=rngs) ** 2).sum())(variables)


@partial(jax.jit, static_argnums=0)
def answer(model, variables, images):
    return model.apply(variables, images)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_tiny_patch16_224", 5_717_416),
        ("vit_small_patch32_224", 22_878_952),
        ("vit_small_patch16_224", 22_050_664),
        ("vit_base_patch32_224", 88_224_232),
        ("vit_base_patch16_224", 86_567_656),
        ("vit_base_patch8_224", 86_576_872),
        ("vit_large_patch32_224", 306_535_400),
        ("vit_large_patch16_224", 304_326_632),
        ("vit_huge_patch14_224", 632_045_800),
        ("deit_tiny_patch16_224", 5_717_416),
        ("deit_small_patch16_224", 22_050_664),
        ("deit_base_patch16_224", 86_567_656),
        ("vit_small_patch8_224", 22_055_272),
        ("vit_large_patch14_224", 304_203_752),
        ("vit_tiny_patch16_384", 5_790_376),
        ("vit_base_patch16_384", 86_859_496),
        ("vit_large_patch16_384", 304_715_752),
    ],
)
def test_networks_have_timms_number_of_parameters(name, count):
    side = int(name.rsplit("_", 1)[1])
    assert models.count_parameters(models.create(name), (side, side, 3)) == count


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        pytest.param("vit_base_patch16_224", marks=pytest.mark.slow),  # 86 million parameters
        "average",
        "attention",
    ],
)
def test_logits_and_every_gradient_norm_agree_with_timm(name):
    # Given the weights that timm had, under its names,
    golden = np.load(GOLDEN / "timm_vit.npz")
    pixels, labels = inputs()
    small = {"width": 64, "depth": 2, "num_heads": 4, "pooling": name}
    model = vit.ViT(**small) if name in vit.POOLINGS else models.create(name)
    params = weights_by_rule(model, pixels)

    # when our network answers,
    def loss(params):
        logits = model.apply({"params": params}, pixels, train=True)
        return losses.cross_entropy(logits, jnp.asarray(labels)).mean(), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(params)

    # then its logits and the gradient of each of timm's parameters are those of timm's in float64.
    expected = golden[f"{name}_logits"]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    norms = {key: np.linalg.norm(np.float64(x)) for key, x in named(gradients).items()}
    wanted = golden[f"{name}_gradient_norms"]
    assert norms.keys() == set(golden[f"{name}_gradient_names"])
    ours = [norms[key] for key in golden[f"{name}_gradient_names"]]
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6 * wanted.max())


@pytest.mark.parametrize("pooling", vit.POOLINGS)
def test_without_dropout_training_and_prediction_are_the_same_program(images, pooling):
    model = vit.ViT(**SMALL, pooling=pooling)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    programs = [jax.make_jaxpr(partial(model.apply, train=train))(shapes, images) for train in (False, True)]
    without_addresses = [re.sub("0x[0-9a-f]+", "", str(program)) for program in programs]
    assert without_addresses[0] == without_addresses[1]


def named(params):
    """Our parameters under timm's names, in torch's layout."""
    paths = jax.tree_util.tree_leaves_with_path({"params": params})
    return dict(
        entry for path, leaf in paths for entry in vit_names.torch_entries([key.key for key in path], np.asarray(leaf))
    )


def weights_by_rule(model, pixels):
    """Parameters whose entries under timm's names are those of the rule."""

    def by_rule(path, leaf):
        path = [key.key for key in path]
        places = np.arange(math.prod(leaf.shape)).reshape(leaf.shape)
        values = np.empty(places.size, np.float32)
        for name, where in vit_names.torch_entries(("params", *path), places):
            values[where] = weight(name, where.shape)
        return values.reshape(leaf.shape)

    shapes = jax.eval_shape(model.init, jax.random.key(0), pixels)["params"]
    return jax.tree_util.tree_map_with_path(by_rule, shapes)


def test_scanned_blocks_equal_the_same_blocks_one_after_another(images, variables):
    # Given what the blocks of a network are fed,
    params = variables["params"]
    embed = vit.PatchEmbed(SMALL["width"], SMALL["patch_size"])
    tokens = embed.apply({"params": params["patch_embed"]}, images)
    token = jnp.broadcast_to(params["cls_token"], (2, 1, SMALL["width"]))
    x = jnp.concatenate([token, tokens], axis=1) + params["pos_embed"]

    # when each block is applied with its slice of the stacked parameters,
    apply = jax.jit(vit.Block(SMALL["num_heads"]).apply)
    for i in range(SMALL["depth"]):
        layer = jax.tree.map(lambda leaf: leaf[i], params["blocks"])
        x, _ = apply({"params": layer}, x)

    # then head of the normalized class token is the network's answer.
    x = x[:, 0] - x[:, 0].mean(-1, keepdims=True)
    x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * params["norm"]["scale"] + params["norm"]["bias"]
    logits = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(answer(vit.ViT(**SMALL), variables, images), logits, rtol=1e-4, atol=1e-5)


def test_patches_are_embedded_as_a_strided_convolution_does(images):
    embed = vit.PatchEmbed(7, 4)
    variables = embed.init(jax.random.key(0), images)
    kernel = variables["params"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(embed.apply(variables, images), convolved.reshape(2, 6, 7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_remat_gives_the_same_gradients(images, variables, rate):
    plain, remat = (vit.ViT(**SMALL, remat=remat, dropout=rate, drop_path=rate) for remat in (False, True))
    expected = gradient(plain, variables, images, dropout=jax.random.key(3))
    for ours, theirs in zip(
        jax.tree.leaves(gradient(remat, variables, images, dropout=jax.random.key(3))),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "drop_path"])
def test_a_population_of_rates_equals_each_alone(images, variables, field):
    def dropped(rate):
        model = vit.ViT(**SMALL, **{field: rate})
        return model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(3)})

    rates = jnp.array([0.0, 0.3, 0.9])
    together = jax.jit(jax.vmap(dropped))(rates)
    for i, rate in enumerate([0.0, 0.3, 0.9]):
        np.testing.assert_allclose(together[i], jax.jit(partial(dropped, rate))(), rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "drop_path"])
def test_nothing_is_dropped_at_prediction(images, variables, field):
    dropping = jax.jit(vit.ViT(**SMALL, **{field: jnp.float32(0.9)}).apply)(variables, images)
    np.testing.assert_array_equal(dropping, answer(vit.ViT(**SMALL), variables, images))


def test_stochastic_depth_grows_linearly_from_the_first_block_to_the_last(images, variables):
    # With a rate of 1 the first block stays, the last falls, and the one between them is there half of the time.
    dropping = vit.ViT(**SMALL, drop_path=1.0)
    only_first = jax.tree.map(lambda x: x, variables)
    for branch in ("attn/proj", "mlp/fc2"):
        part, dense = branch.split("/")
        only_first["params"]["blocks"][part][dense] = jax.tree.map(
            lambda x: x.at[1:].set(0), variables["params"]["blocks"][part][dense]
        )
    keys = jax.random.split(jax.random.key(0), 200)
    answers = jax.jit(jax.vmap(lambda key: dropping.apply(variables, images, train=True, rngs={"dropout": key})))(keys)
    alone = answer(vit.ViT(**SMALL), only_first, images)
    equal = np.isclose(answers, alone, rtol=1e-4, atol=1e-5).all(-1)
    # Both branches of the middle block fall, independently, with probability ½ each; 400 draws.
    assert abs(equal.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / equal.size)


def test_without_positions_the_pooled_answer_knows_no_order_of_patches(images, variables):
    # Given an image and the same one with its two rows of patches exchanged,
    exchanged = jnp.concatenate([images[:, 4:], images[:, :4]], axis=1)
    params = {key: x for key, x in variables["params"].items() if key not in ("cls_token", "norm")}
    params["fc_norm"] = variables["params"]["norm"]
    params["pos_embed"] = params["pos_embed"][:, 1:]
    model = vit.ViT(**SMALL, pooling="average")
    ours, theirs = (answer(model, {"params": params}, x) for x in (images, exchanged))
    assert np.abs(ours - theirs).max() > 1e-3
    params["pos_embed"] = 0 * params["pos_embed"]
    ours, theirs = (answer(model, {"params": params}, x) for x in (images, exchanged))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", vit.POOLINGS)
@pytest.mark.parametrize("positions", vit.POSITIONS)
def test_in_bfloat16_logits_are_float32_and_near_those_of_float32(images, pooling, positions):
    fields = SMALL | {"pooling": pooling, "positions": positions}
    variables = jax.jit(vit.ViT(**fields).init)(jax.random.key(0), images)
    logits = answer(vit.ViT(**fields, dtype=jnp.bfloat16), variables, images)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    expected = answer(vit.ViT(**fields), variables, images)
    # bfloat16 has 8 bits of fraction; a few layers lose a few of them.
    np.testing.assert_allclose(logits, expected, atol=2**-4 * np.abs(expected).max())


def test_every_parameter_gets_a_gradient(images, variables):
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(vit.ViT(**SMALL), variables, images)):
        assert float(jnp.abs(leaf).max()) > 0, path


def test_the_program_of_a_training_step_does_not_grow_with_depth():
    def equations(depth):
        model = vit.ViT(**SMALL | {"depth": depth})
        x = jnp.zeros((2, 8, 8, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(jax.grad(lambda v: model.apply(v, x, train=True).sum()))(variables)).count(" = ")

    assert equations(48) == equations(4)


@pytest.mark.parametrize("grid", [(9, 7), (3, 2)])
def test_interpolated_positions_agree_with_timm(grid):
    ours = interpolate_positions(jnp.asarray(weight("pos_embed", (1, 26, 8))), (5, 5), grid)
    np.testing.assert_allclose(ours, np.load(GOLDEN / "timm_vit.npz")[f"positions_{grid[0]}x{grid[1]}"], atol=1e-6)


def test_positions_of_the_same_grid_stay_as_they_are():
    positions = jax.random.normal(jax.random.key(0), (1, 13, 8))
    np.testing.assert_array_equal(interpolate_positions(positions, (3, 4), (3, 4)), positions)


@pytest.mark.parametrize(("old", "new"), [((6, 8), (12, 24)), ((24, 24), (12, 8))])
def test_interpolation_keeps_affine_fields_away_from_the_border(old, new):
    def field(grid):
        """1 + 2y − 3x at the patches' centers, in units of the image."""
        y, x = ((jnp.arange(size) + 0.5) / size for size in grid)
        return 1 + 2 * y[:, None] - 3 * x[None]

    moved = interpolate_positions(field(old).reshape(1, -1, 1), old, new, prefix_tokens=0).reshape(new)
    # Keys' kernel reaches two patches of the coarser grid.
    border = [math.ceil(2 * size / min(size, before)) for size, before in zip(new, old, strict=True)]
    inside = tuple(slice(width, -width) for width in border)
    assert field(new)[inside].size
    np.testing.assert_allclose(moved[inside], field(new)[inside], atol=1e-5)


def test_a_network_moved_to_a_larger_grid_answers_there(images, variables):
    model, larger = vit.ViT(**SMALL), jnp.ones((2, 16, 16, 3))
    with pytest.raises(ValueError, match=r"grid of 4×4 patches.*interpolate_positions"):
        jax.eval_shape(model.apply, variables, larger)
    positions = interpolate_positions(variables["params"]["pos_embed"], (2, 3), (4, 4))
    moved = {"params": variables["params"] | {"pos_embed": positions}}
    assert jnp.isfinite(answer(model, moved, larger)).all()


def test_sine_cosine_positions_equal_their_closed_form():
    width, grid = 8, (3, 5)
    ours = np.asarray(sincos2d(grid, width))
    for row in range(grid[0]):
        for column in range(grid[1]):
            angles = [[place * 10_000.0 ** (-2 * k / 4) for k in range(2)] for place in (column, row)]
            expected = np.concatenate([[*np.sin(a), *np.cos(a)] for a in angles])
            np.testing.assert_allclose(ours[row * grid[1] + column], expected, atol=1e-6)


def test_sine_cosine_positions_of_a_shift_are_a_rotation():
    # sin, cos of p + 3 are one linear map of sin, cos of p: how the paper argues that offsets are easy to learn.
    here, there = sincos(jnp.arange(50), 6), sincos(jnp.arange(50) + 3, 6)
    moved = np.linalg.lstsq(np.asarray(here), np.asarray(there), rcond=None)[0]
    np.testing.assert_allclose(here @ moved, there, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 30, 28, 3), r"30×28 pixels.*4×4"),
        ({}, (28, 28, 3), r"batch, height, width, channel.*\(28, 28, 3\)"),
        ({"num_heads": 5}, (1, 8, 8, 3), "width of 32 cannot be cut into 5 heads"),
        ({"num_heads": 0}, (1, 8, 8, 3), "num_heads of at least 1; it is 0"),
        ({"depth": 0}, (1, 8, 8, 3), "depth of at least 1; it is 0"),
        ({"depth": -1}, (1, 8, 8, 3), "depth of at least 1; it is -1"),
        ({"patch_size": 0}, (1, 8, 8, 3), "patch_size of at least 1; it is 0"),
        ({"num_classes": 0}, (1, 8, 8, 3), "num_classes of at least 1; it is 0"),
        ({"width": -4}, (1, 8, 8, 3), "width of at least 1; it is -4"),
        ({"mlp_ratio": 0.0}, (1, 8, 8, 3), "mlp_ratio is 0.0"),
        ({}, (1, 0, 0, 3), "0×0 pixels"),
        ({"pooling": "max"}, (1, 8, 8, 3), "'max'; valid are: token, average, attention"),
        ({"positions": "none"}, (1, 8, 8, 3), "'none'; valid are: learned, sincos2d"),
        ({"drop_path": 1.5}, (1, 8, 8, 3), r"drop_path is 1\.5"),
        ({"width": 30, "num_heads": 3, "positions": "sincos2d"}, (1, 8, 8, 3), "multiple of 4; it is 30"),
    ],
)
def test_wrong_fields_and_images_are_refused(fields, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(vit.ViT(**SMALL | fields).init, jax.random.key(0), jnp.zeros(shape))


def test_unknown_sizes_grids_and_odd_widths_are_refused():
    with pytest.raises(ValueError, match="tiny, small, base, large, huge"):
        vit.sized("giant", 14)
    with pytest.raises(ValueError, match=r"3×3 grid.*\(1, 10, width\).*\(1, 9, 4\)"):
        interpolate_positions(jnp.zeros((1, 9, 4)), (3, 3), (6, 6))
    with pytest.raises(ValueError, match="even width; it is 5"):
        sincos(jnp.arange(3), 5)
