"""Generators and discriminators: published sizes, what labels and norms do, and blocks written out as in the paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.generative import discriminators, gan, gan_layers, generators
from etude.models.layers import Conv, ConvTranspose

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (16, 24, 2)]
IMAGES = jax.random.uniform(jax.random.key(3), (6, 8, 8, 1), minval=-1.0)
Z = jax.random.normal(jax.random.key(4), (6, 5))
LABELS = jnp.array([0, 1, 2, 2, 1, 0])


# Modules are static, so that equal ones share their programs.
@partial(jax.jit, static_argnums=0)
def initialized(module, *inputs):
    return module.init(jax.random.key(0), *inputs)


@partial(jax.jit, static_argnames=("module", "train"))
def scores(module, variables, images, labels=None, *, train=False):
    """(scores or images, collections after them)"""
    mutable = [name for name in variables if name != "params"] if train else []
    return module.apply(variables, images, labels, train=train, mutable=mutable)


def small(network, norm="none", **fields):
    """A discriminator for 8×8 digits."""
    blocks = {"blocks": 1} if network == "resnet" else {}
    return gan.NETWORKS[network][1](norm, width=4, **blocks, **fields)


def test_dcgan_has_as_many_weights_as_the_well_known_one_of_64_channels_for_64_pixels():
    # PyTorch's examples/dcgan without biases: 3,576,704 and 2,765,568. Here the last layer of the generator and both
    # ends of the discriminator have biases.
    generator, discriminator = gan.DCGANGenerator((64, 64, 3), width=64), gan.DCGANDiscriminator(width=64)
    assert models.count_parameters(generator, (100,)) == 3_576_704 + 3
    assert models.count_parameters(discriminator, (64, 64, 3)) == 2_765_568 + 64 + 1


def test_the_residual_networks_have_the_sizes_of_those_for_cifar():
    # From table 4: of the generator 128·4096 + 4096 for the dense layer; a block has two 3×3 and one 1×1 kernel of
    # 256 × 256, three biases and two BatchNorms; then BatchNorm and a kernel to 3 channels.
    block = (9 + 9 + 1) * 256**2 + 3 * 256 + 4 * 256
    generator = 128 * 4096 + 4096 + 3 * block + 2 * 256 + 9 * 256 * 3 + 3
    first, plain = (9 * 3 + 9 * 128 + 3) * 128 + 3 * 128, 2 * (9 * 128**2 + 128)
    discriminator = first + plain + 128**2 + 128 + 2 * plain + 129
    assert models.count_parameters(gan.ResNetGenerator((32, 32, 3)), (128,)) == generator == 4_276_739
    assert models.count_parameters(gan.ResNetDiscriminator(), (32, 32, 3)) == discriminator == 1_053_825


@pytest.mark.parametrize("network", gan.NETWORKS)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_every_size_and_norm_has_images_and_scores_of_the_right_shape(network, num_classes):
    make_generator, make_discriminator = gan.NETWORKS[network]
    labels = None if num_classes is None else LABELS
    for shape in SHAPES:
        generator = make_generator(shape, num_classes, width=2)
        images, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), Z, labels)
        assert (images.shape, images.dtype) == ((6, *shape), jnp.float32)
        for norm in discriminators.NORMS:
            discriminator = make_discriminator(norm, num_classes, width=2)
            out, _ = jax.eval_shape(
                lambda images, module=discriminator: module.init_with_output(jax.random.key(0), images, labels), images
            )
            assert (out.shape, out.dtype) == ((6,), jnp.float32)


@pytest.mark.parametrize("network", gan.NETWORKS)
def test_images_lie_between_minus_1_and_1_and_use_the_room(network):
    generator = gan.NETWORKS[network][0]((8, 8, 1), width=4)
    variables = initialized(generator, Z)
    images, updated = scores(generator, variables, Z, train=True)
    assert jnp.abs(images).max() <= 1
    assert images.std() > 1e-3
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(variables["batch_stats"])


@pytest.mark.parametrize(
    ("shape", "halvings"), [((8, 8), 2), ((28, 28), 2), ((32, 32), 3), ((64, 64), 4), ((48, 96), 3), ((4, 4), 2)]
)
def test_grids_are_halved_twice_and_then_while_they_are_large(shape, halvings):
    assert gan_layers.count_halvings(shape) == halvings


@pytest.mark.parametrize("shape", [(30, 30), (14, 14), (7, 7), (32, 36 + 2), (0, 8), (1, 1)])
def test_grids_that_become_odd_too_soon_are_refused(shape):
    with pytest.raises(ValueError, match=f"{shape[0]}×{shape[1]} pixels cannot be halved"):
        gan_layers.count_halvings(shape)
    with pytest.raises(ValueError, match="cannot be halved"):
        jax.eval_shape(gan.DCGANDiscriminator(width=2).init, jax.random.key(0), jnp.zeros((1, *shape, 1)))


def test_the_transposed_convolution_is_the_adjoint_of_the_convolution():
    x, y = jax.random.normal(jax.random.key(1), (2, 8, 6, 3)), jax.random.normal(jax.random.key(2), (2, 4, 3, 5))
    kernel = jax.random.normal(jax.random.key(3), (4, 4, 3, 5))
    down = Conv(5, 4, 2, 1).apply({"params": {"kernel": kernel}}, x)
    up = ConvTranspose(3, 4, 2, 1).apply({"params": {"kernel": kernel}}, y)
    assert up.shape == x.shape
    assert float((down * y).sum()) == pytest.approx(float((x * up).sum()), rel=1e-4)


def direct_conv(x, layer):
    """A convolution by its definition: Σ over the taps of shifted images times matrices."""
    kernel, bias = np.asarray(layer["kernel"], np.float64), np.asarray(layer["bias"], np.float64)
    size = kernel.shape[0]
    pad = size // 2
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = x.shape[1:3]
    taps = [padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(size) for j in range(size)]
    return sum(taps) + bias


def doubled(x):
    return np.kron(x, np.ones((1, 2, 2, 1)))


def halved(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def relu(x):
    return np.maximum(x, 0)


def perturbed(params):
    """Biases that are not 0, so that their place matters."""
    return jax.tree.map(lambda p: p + 0.1 * np.random.default_rng(p.size).standard_normal(p.shape, np.float32), params)


def test_the_block_of_the_generator_is_the_one_of_the_paper():
    x = jax.random.normal(jax.random.key(1), (4, 3, 2, 5))
    block = generators.UpBlock(6)
    variables = jax.jit(block.init, static_argnums=(2, 3))(jax.random.key(0), x, None, False)
    params = perturbed(variables["params"])
    apply = jax.jit(lambda v: block.apply(v, x, None, True, mutable=["batch_stats"]))
    y, _ = apply({**variables, "params": params})

    def normalized(x, layer):
        x = np.asarray(x, np.float64)
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / np.sqrt(variance + 1e-5) * np.asarray(layer["scale"]) + np.asarray(layer["bias"])

    branch = direct_conv(doubled(relu(normalized(x, params["bn1"]))), params["conv1"])
    branch = direct_conv(relu(normalized(branch, params["bn2"])), params["conv2"])
    expected = branch + direct_conv(doubled(x), params["shortcut"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_the_blocks_of_the_discriminator_are_those_of_the_paper():
    x = jax.random.normal(jax.random.key(1), (2, 4, 6, 5))
    first, down, flat = (
        discriminators.FirstBlock(5, "none"),
        discriminators.DownBlock(5, True, "none"),
        discriminators.DownBlock(5, False, "none"),
    )
    params = {
        block: perturbed(jax.jit(block.init, static_argnums=2)(jax.random.key(0), x, False)["params"])
        for block in (first, down, flat)
    }

    def expected(block, before, end):
        p = params[block]
        y = direct_conv(relu(direct_conv(before(np.asarray(x)), p["conv1"])), p["conv2"])
        around = direct_conv(x, p["shortcut"]) if "shortcut" in p else np.asarray(x)
        return end(y) + end(around)

    def same(x):
        return x

    for block, before, end in ((first, same, halved), (down, relu, halved), (flat, relu, same)):
        measured = jax.jit(block.apply, static_argnums=2)({"params": params[block]}, x, False)
        np.testing.assert_allclose(measured, expected(block, before, end), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", gan.NETWORKS)
def test_after_power_iterations_the_normalized_matrices_have_the_singular_value_1(network):
    module = small(network, "spectral", num_classes=3)
    variables = initialized(module, IMAGES, LABELS)
    for _ in range(150):
        variables = {**variables, **scores(module, variables, IMAGES, LABELS, train=True)[1]}
    found = list(normalized(variables["params"], variables["spectral"]))
    assert len(found) == sum(p.ndim > 1 for p in jax.tree.leaves(variables["params"]))
    for weight, sigma in found:
        matrix = np.asarray(weight, np.float64).reshape(-1, weight.shape[-1])
        largest = np.linalg.svd(matrix / float(sigma), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=1e-3)  # 150 iterations, float32


def normalized(params, spectral):
    """(weight, its estimated singular value) of every normalized layer."""
    for name, below in spectral.items():
        if not name.endswith("_spectral"):
            yield from normalized(params[name], below)
            continue
        (path,) = (name for name in below if name.endswith("/sigma"))
        layer, leaf, _ = path.split("/")
        yield params[layer][leaf], below[path]


@pytest.mark.parametrize("network", gan.NETWORKS)
def test_spectral_scores_do_not_depend_on_the_size_of_the_weights(network):
    module = small(network, "spectral", num_classes=3)
    variables = initialized(module, IMAGES, LABELS)
    larger = jax.tree.map(lambda p: 7 * p, variables["params"])  # biases are 0 at the beginning
    before, _ = scores(module, variables, IMAGES, LABELS)
    after, _ = scores(module, {**variables, "params": larger}, IMAGES, LABELS)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_singular_vectors_move_in_training_alone():
    module = small("dcgan", "spectral")
    variables = initialized(module, IMAGES)
    once, after = scores(module, variables, IMAGES, train=True)
    assert after.keys() == {"spectral"}
    moved = jax.tree.map(lambda x, y: not np.array_equal(x, y), after["spectral"], variables["spectral"])
    assert any(jax.tree.leaves(moved))
    again, after = scores(module, variables, IMAGES)
    assert not after
    np.testing.assert_allclose(again, once, rtol=1e-5)


@pytest.mark.parametrize("network", gan.NETWORKS)
@pytest.mark.parametrize("norm", discriminators.NORMS)
def test_only_batch_norm_lets_a_score_depend_on_other_images(network, norm):
    module = small(network, norm)
    variables = initialized(module, IMAGES)
    others = IMAGES.at[1:].multiply(-0.5)
    alone, _ = scores(module, variables, IMAGES, train=True)
    among, _ = scores(module, variables, others, train=True)
    assert np.isclose(alone[0], among[0], rtol=1e-5, atol=1e-7) == (norm != "batch")


@pytest.mark.parametrize("network", gan.NETWORKS)
def test_a_label_adds_its_projection_of_the_features_to_the_score(network):
    module = small(network, num_classes=3)
    variables = initialized(module, IMAGES, LABELS)
    params = variables["params"]
    table = params["label"]["embedding"]
    assert table.shape[0] == 3

    def of(table, labels):
        return scores(module, {"params": {**params, "label": {"embedding": table}}}, IMAGES, labels)[0]

    plain, _ = scores(small(network), {"params": {k: v for k, v in params.items() if k != "label"}}, IMAGES)
    np.testing.assert_allclose(of(0 * table, LABELS), plain, rtol=1e-5, atol=1e-7)
    # e_y equal to the vector of the dense layer doubles the score, but for the bias, which is 0.
    np.testing.assert_allclose(
        of(jnp.broadcast_to(params["head"]["kernel"][:, 0], table.shape), LABELS), 2 * plain, rtol=1e-4, atol=1e-6
    )
    assert not np.allclose(of(table, LABELS), of(table, (LABELS + 1) % 3))


def test_labels_choose_the_first_layer_of_dcgan():
    conditional, plain = gan.DCGANGenerator((8, 8, 1), 3, width=4), gan.DCGANGenerator((8, 8, 1), width=4)
    variables = initialized(conditional, Z, LABELS)
    kernel = variables["params"]["project"]["kernel"]
    assert kernel.shape[0] == 5 + 3
    cut = {**variables, "params": {**variables["params"], "project": {"kernel": kernel[:5]}}}
    without = {**variables, "params": {**variables["params"], "project": {"kernel": kernel.at[5:].set(0)}}}
    unlabeled = scores(plain, cut, Z)[0]
    np.testing.assert_allclose(scores(conditional, without, Z, LABELS)[0], unlabeled, atol=1e-6)
    assert not np.allclose(scores(conditional, variables, Z, LABELS)[0], unlabeled, atol=1e-5)


def test_labels_choose_scale_and_shift_in_the_residual_generator_and_begin_without_effect():
    conditional, plain = gan.ResNetGenerator((8, 8, 1), 3, width=4), gan.ResNetGenerator((8, 8, 1), width=4)
    variables = initialized(conditional, Z, LABELS)
    same = initialized(plain, Z)
    names = {name for block in variables["params"].values() for name in block}
    assert {f"bn{i}_{part}" for i in (1, 2) for part in ("factor", "summand")} < names

    def without_labels(tree):
        return {
            name: without_labels(below) if isinstance(below, dict) else below
            for name, below in tree.items()
            if not name.endswith(("_factor", "_summand"))
        }

    shared = {**same, "params": without_labels(variables["params"])}
    unlabeled = scores(plain, shared, Z)[0]
    np.testing.assert_allclose(scores(conditional, variables, Z, LABELS)[0], unlabeled, atol=1e-6)
    block = variables["params"]["block1"]
    block = {**block, "bn1_summand": {"embedding": block["bn1_summand"]["embedding"].at[1].set(1.0)}}
    moved, _ = scores(conditional, {**variables, "params": {**variables["params"], "block1": block}}, Z, LABELS)
    changed = np.abs(moved - unlabeled).max((1, 2, 3)) > 1e-4
    np.testing.assert_array_equal(changed, LABELS == 1)


@pytest.mark.parametrize("network", gan.NETWORKS)
def test_bfloat16_computes_close_to_float32_and_gives_float32(network):
    make_generator, _ = gan.NETWORKS[network]
    full, half = make_generator((8, 8, 1), width=4), make_generator((8, 8, 1), width=4, dtype=jnp.bfloat16)
    variables = initialized(full, Z)
    images, _ = scores(half, variables, Z)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, scores(full, variables, Z)[0], atol=0.05)  # eight bits of mantissa, a few layers
    module = small(network, "spectral", dtype=jnp.bfloat16)
    out, _ = scores(module, initialized(module, IMAGES), IMAGES)
    assert out.dtype == jnp.float32
    assert jnp.isfinite(out).all()


@pytest.mark.parametrize("module", [gan.DCGANGenerator((8, 8, 1)), gan.DCGANDiscriminator()])
def test_labels_that_are_not_wanted_or_missing_or_of_another_kind_are_refused(module):
    x = Z if isinstance(module, gan.Generator) else IMAGES

    def init(module, labels):
        return jax.eval_shape(module.init, jax.random.key(0), x, labels)

    with pytest.raises(ValueError, match="has no classes"):
        init(module, LABELS)
    conditional = module.clone(num_classes=3)
    for labels in (None, LABELS[:5], LABELS.astype(jnp.float32), jax.nn.one_hot(LABELS, 3)):
        with pytest.raises(ValueError, match=r"needs integer labels \[6\]"):
            init(conditional, labels)


def test_inputs_and_fields_that_do_not_fit_are_refused():
    def init(module, x):
        return jax.eval_shape(module.init, jax.random.key(0), x)

    with pytest.raises(ValueError, match=r"needs z of shape \[batch, latent\]"):
        init(gan.ResNetGenerator((8, 8, 1)), Z[0])
    with pytest.raises(ValueError, match="needs images"):
        init(gan.DCGANDiscriminator(), IMAGES[0])
    with pytest.raises(ValueError, match="'instance'; valid are: batch, layer, spectral, none"):
        init(gan.DCGANDiscriminator("instance"), IMAGES)
    with pytest.raises(ValueError, match="8×8 pixels cannot be halved 4 times"):
        init(gan.ResNetDiscriminator(halvings=4), IMAGES)
    with pytest.raises(ValueError, match="halvings is 0"):
        init(gan.ResNetDiscriminator(halvings=0), IMAGES)
