"""Fully convolutional networks: classifiers as convolutions, exactly; bilinear beginnings; any size."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from etude import models
from etude.models import pretrained
from etude.models.classifiers import alexnet, resnet, vgg
from etude.models.dense import FCN, TRUNKS, FCNResNet, ResNetTrunk, UNet, convolutionalized, with_classifier
from etude.models.layers import upscale_bilinear
from weights import segmented

KEY = jax.random.key(7, impl="unsafe_rbg")
STAGES = ((4,), (6,), (6, 8))
# Network, and the side of its own images: their last grid has the size to which the head averages.
CLASSIFIERS = {
    "alexnet": (alexnet.AlexNet(5, (4, 6, 4, 6, 4), hidden=(8, 7), grid=2), 95),
    "alexnet, the original": (alexnet.original(num_classes=5, features=(4, 6, 4, 6, 4), hidden=(8,), grid=None), 95),
    "vgg": (vgg.VGG(5, STAGES, hidden=(8, 7), grid=2), 16),
    "vgg with a linear head": (vgg.VGG(5, STAGES, batch_norm=True, hidden=(), grid=None), 24),
    "resnet": (resnet.ResNet(5, stage_sizes=(1, 2), width=4), 24),
}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_variables(model, shape, seed=0):
    """Numbers of no regularity for every leaf of a network, of a size that keeps activations about 1."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        numbers = rng.standard_normal(leaf.shape) / max(1, np.sqrt(np.prod(leaf.shape[:-1]) / 2))
        return jnp.asarray(abs(numbers) + 0.5 if path[-1].key == "var" else numbers, jnp.float32)

    template = jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return jax.tree_util.tree_map_with_path(draw, template)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_as_convolutions_reproduces_it_at_its_size_and_maps_a_larger_image(name):
    model, side = CLASSIFIERS[name]
    variables = random_variables(model, (side, side, 3))
    network, convolved = convolutionalized(model, variables, (side, side, 3))
    large = normal(2, side * 3 // 2, side * 3 // 2, 3)
    small = large[:, :side, :side]
    logits, answer = jax.jit(model.apply)(variables, small), jax.jit(network.apply)(convolved, small)
    assert answer.shape == (2, 1, 1, 5)
    assert np.abs(logits).max() > 0.01
    np.testing.assert_allclose(answer[:, 0, 0], logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())
    answers = jax.jit(network.apply)(convolved, large)
    assert min(answers.shape[1:3]) > 1
    assert answers.shape[3] == 5
    assert np.abs(answers[:, 0, 0] - answers[:, -1, -1]).max() > 1e-3


def test_networks_without_padding_classify_every_window():
    # AlexNet's own convolutions pad, so the windows of its grid see what lies beside them; with a first stage that
    # pools only, each window is a small image of its own.
    model = vgg.VGG(5, ((), ()), hidden=(8,), grid=2)
    variables = random_variables(model, (8, 8, 3))
    network, convolved = convolutionalized(model, variables, (8, 8, 3))
    x = normal(1, 12, 16, 3)
    answers = network.apply(convolved, x)
    for i, j in np.ndindex(2, 3):
        window = x[:, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8]
        np.testing.assert_allclose(answers[:, i, j], model.apply(variables, window), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_read_as_convolutions_is_refused():
    model, _ = CLASSIFIERS["vgg"]
    variables = random_variables(model, (16, 16, 3))
    with pytest.raises(ValueError, match=r"last grid of \(3, 3\); it must be square and 2 pixels wide"):
        convolutionalized(model, variables, (24, 24, 3))
    with pytest.raises(ValueError, match="UNet cannot be read as convolutions; AlexNet, VGG, ResNet can"):
        convolutionalized(UNet(), {}, (16, 16, 3))


def written_out(trunk, hidden, window, channels, stride, classes=21):
    """Parameters: of the trunk, of hidden convolutions, of scores with bias, of upscaling without."""
    sizes = [window] + [1] * len(hidden)
    widths = [channels[-1], *hidden]
    dense = sum(k * k * a * b + b for k, a, b in zip(sizes, widths, hidden, strict=False))
    count = {32: 1, 16: 2, 8: 3}[stride]
    scored = [widths[-1], *channels[-2::-1]][:count]
    scores = sum(width * classes + classes for width in scored)
    upscaling = classes**2 * (16 * (count - 1) + (2 * stride) ** 2)
    return trunk + dense + scores + upscaling


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_parameters_are_those_of_the_trunk_the_hidden_layers_scores_and_upscaling(stride):
    # torchvision's counts less those of the heads.
    vgg16 = 138_357_544 - (7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000)
    resnet18 = 11_689_512 - (512 * 1000 + 1000)
    vgg_count = models.count_parameters(models.create(f"fcn{stride}s_vgg16"), (32, 32, 3))
    assert vgg_count == written_out(vgg16, (4096, 4096), 7, (256, 512, 512), stride)
    assert models.count_parameters(models.create(f"fcn{stride}s_resnet18"), (32, 32, 3)) == written_out(
        resnet18, (), 1, (128, 256, 512), stride
    )


def test_alexnet_is_scored_at_stride_32_alone():
    trunk = 61_100_840 - (6 * 6 * 256 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000)
    count = models.count_parameters(models.create("fcn32s_alexnet"), (32, 32, 3))
    assert count == written_out(trunk, (4096, 4096), 6, (256,), 32)
    with pytest.raises(ValueError, match="stride is 16; valid for the trunk alexnet are: 32 alone"):
        models.count_parameters(FCN(trunk="alexnet", stride=16), (64, 64, 3))


@pytest.mark.parametrize("name", ["fcn32s_alexnet", "fcn8s_vgg16", "fcn16s_resnet18", "fcn8s_small", "fcn_resnet50"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 50, 1)])
def test_any_size_gets_an_answer_for_every_pixel(name, shape):
    model = models.create(name, num_classes=4, dtype=jnp.bfloat16)
    answer = jax.eval_shape(lambda x: model.apply(model.init(KEY, x), x), jax.ShapeDtypeStruct((2, *shape), "float32"))
    assert (answer.shape, answer.dtype) == ((2, *shape[:2], 4), jnp.float32)


def test_the_coarsest_pixels_of_alexnet_and_vgg_are_centered_in_their_squares():
    pool = {"alexnet": models.Window(3, 2), "small": models.Window(2, 2)}
    convolutions = {
        "alexnet": [([models.Window(k, s, padding=p)], pooled) for k, s, p, pooled in alexnet.CONVOLUTIONS],
        "small": [([models.Window(3, padding=1)] * n, True) for n in (1, 1, 2, 2, 2)],
    }
    for name, stack in convolutions.items():
        layers = [layer for convs, pooled in stack for layer in [*convs, *([pool[name]] if pooled else [])]]
        field = models.receptive_field(layers)
        assert field.jump == 32
        assert field.start + (field.size - 1) / 2 - TRUNKS[name].margin == pytest.approx(15.5, abs=0.5)
        side = 96 + 2 * TRUNKS[name].margin
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        trunk = TRUNKS[name].make()
        assert jax.eval_shape(lambda x: trunk.apply(trunk.init(KEY, x), x), image)[-1].shape[1:3] == (3, 3)


def test_an_fcn_begins_as_the_bilinear_interpolation_of_its_scores():
    model = FCN(num_classes=3, trunk="small", stride=32, hidden=(), window=1)
    x = normal(1, 96, 96, 3)
    variables = random_variables(model, (96, 96, 3))
    fresh = jax.jit(model.init)(KEY, x)
    assert not np.asarray(fresh["params"]["scores32"]["kernel"]).any()
    variables["params"]["upscale"] = fresh["params"]["upscale"]
    trunk = TRUNKS["small"].make()
    features = {kind: leaves["features"] for kind, leaves in variables.items() if "features" in leaves}

    @jax.jit
    def expected(x):
        scores = trunk.apply(features, x)[-1] @ variables["params"]["scores32"]["kernel"][0, 0]
        return upscale_bilinear(scores + variables["params"]["scores32"]["bias"], (96, 96))

    answer = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(answer[:, 16:-16, 16:-16], expected(x)[:, 16:-16, 16:-16], rtol=1e-4, atol=1e-5)


def test_an_fcn_takes_the_layers_of_a_trained_classifier():
    fields = {"stages": ((16,), (32,), (64, 64), (128, 128), (128, 128)), "batch_norm": True, "grid": 3}
    classifier = vgg.VGG(7, hidden=(256,), **fields)
    trained = random_variables(classifier, (96, 96, 3))
    model = FCN(num_classes=4, trunk="small", stride=16)
    variables = random_variables(model, (96, 96, 3), seed=1)
    begun = with_classifier(variables, trained)
    assert jax.tree.structure(begun) == jax.tree.structure(variables)
    # The hidden layer of the middle pixel reads the whole last grid: scored by identity, it is the classifier's.
    x = normal(1, 96, 96, 3)
    scores = {"kernel": jnp.eye(256, 4)[None, None], "bias": jnp.zeros(4)}
    begun["params"]["scores32"] = scores
    seen = partial(model.apply, capture_intermediates=lambda module, _: module.name == "scores32")
    hidden = jax.jit(seen)(begun, x)[1]["intermediates"]["scores32"]["__call__"][0][0, 1, 1]
    head = trained["params"]["head"] | {"output": {"kernel": jnp.eye(256, 7), "bias": jnp.zeros(7)}}
    wanted = jax.jit(classifier.apply)(trained | {"params": trained["params"] | {"head": head}}, x)[0, :4]
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(hidden, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="does not have the layers of this FCN: dense1"):
        with_classifier(variables, random_variables(vgg.VGG(7, hidden=(8,), **fields), (96, 96, 3)))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (FCN(trunk="vgg12"), (1, 32, 32, 3), "no trunk 'vgg12'. Valid are: alexnet, vgg11"),
        (FCN(stride=4), (1, 32, 32, 3), "stride is 4; valid for the trunk vgg16 are: 32, 16, 8"),
        (FCN(num_classes=0), (1, 32, 32, 3), "num_classes of at least 1"),
        (FCN(), (32, 32, 3), "height, width, channel"),
    ],
)
def test_trunks_strides_and_ranks_that_do_not_fit_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))


GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden" / "torchvision_fcn.npz")


def test_names_and_shapes_of_fcn_resnet50_are_torchvisions_and_so_is_the_number_of_parameters():
    model = models.create("fcn_resnet50")
    empty = jax.tree.map(lambda x: np.broadcast_to(np.int8(0), x.shape), pretrained.template(model, (64, 64, 3)))
    ours = [f"{key} {x.shape}" for key, x in sorted(pretrained.to_torch(model, empty).items())]
    assert ours == list(GOLDEN["names"])
    # The published weights' own counts ("num_params").
    assert models.count_parameters(model, (64, 64, 3)) == 35_322_218
    assert models.count_parameters(models.create("fcn_resnet101"), (64, 64, 3)) == 54_314_346


@pytest.mark.parametrize(
    ("mode", "precision"),
    [
        ("eval", "float32"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("train", "float64"), ("eval", "float64")]),
    ],
)
def test_answers_and_gradients_of_fcn_resnet50_agree_with_torchvision(mode, precision):
    images, labels = segmented()
    with jax.enable_x64(precision == "float64"):
        model = models.create("fcn_resnet50", dropout=0.0, dtype=jnp.dtype(precision), param_dtype=jnp.dtype(precision))
        variables = parity.variables_by_rule(model, images.shape[1:], precision)

        @jax.jit
        @partial(jax.grad, has_aux=True)
        def gradient(params):
            out, state = model.apply(
                variables | {"params": params}, images, train=mode == "train", mutable=["batch_stats", "intermediates"]
            )
            (aux,) = state["intermediates"]["aux"]
            return cross_entropy(out, labels) + 0.5 * cross_entropy(aux, labels), (out, aux)

        gradients, answers = jax.device_get(gradient(variables["params"]))
        gradients = pretrained.to_torch(model, {"params": gradients})
    for name, answer in zip(("out", "aux"), answers, strict=True):
        wanted = GOLDEN[f"{mode}_{name}"]
        np.testing.assert_allclose(answer[:, ::4, ::4], wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)
    names, wanted = GOLDEN[f"{mode}_gradient_names"], GOLDEN[f"{mode}_gradient_norms"]
    assert sorted(names) == sorted(gradients)
    norms = [np.linalg.norm(gradients[key].astype(np.float64)) for key in names]
    tight = precision == "float64"
    np.testing.assert_allclose(
        norms, wanted, rtol=1e-5 if tight else 1e-4, atol=(1e-6 if tight else 1e-4) * wanted.max()
    )
    np.testing.assert_allclose(np.linalg.norm(norms), np.linalg.norm(wanted), rtol=1e-5 if tight else 1e-4)


def cross_entropy(logits, labels):
    """Mean over the pixels that have a class, as torch's with ignore_index=-1."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    return -(chosen * (labels >= 0)).sum() / (labels >= 0).sum()


def test_weights_of_fcn_resnet50_come_back_from_a_file_and_tell_their_classes(tmp_path):
    model = FCNResNet(num_classes=5, stage_sizes=(1, 1, 2, 2), width=4)
    variables = random_variables(model, (32, 32, 3))
    pretrained.save(model, variables, tmp_path / "weights.safetensors")
    back = pretrained.load(model, tmp_path / "weights.safetensors", (32, 32, 3))
    jax.tree.map(np.testing.assert_array_equal, back, dict(variables))
    state = pretrained.read(tmp_path / "weights.safetensors")
    assert models.weights.num_classes(FCNResNet(stage_sizes=(1, 1, 2, 2), width=4), state, (32, 32, 3)) == 5
    with pytest.raises(ValueError, match="unknown: aux_classifier"):
        pretrained.from_torch(
            model.clone(auxiliary=False), state, pretrained.template(model.clone(auxiliary=False), (32, 32, 3))
        )


def test_dilated_stages_keep_the_grid_and_their_pixels_are_those_of_the_strided_ones():
    # Given a trunk and its dilated twin with the same weights, every second pixel of the dilated grid is a pixel of
    # the other, because a dilated convolution does at each phase what the strided one does at phase 0.
    fields = {"block": models.classifiers.BottleneckBlock, "stage_sizes": (1, 1, 1), "width": 4}
    strided, dilated = ResNetTrunk(**fields), ResNetTrunk(**fields, dilated_stages=1)
    x = normal(1, 64, 64, 3)
    variables = random_variables(strided, (64, 64, 3))
    coarse, fine = jax.jit(strided.apply)(variables, x), jax.jit(dilated.apply)(variables, x)
    assert (coarse[-1].shape[1], fine[-1].shape[1]) == (4, 8)
    np.testing.assert_allclose(fine[-1][:, ::2, ::2], coarse[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dilated_stages": 4}, "dilated_stages is 4; of 4 stages at most 3"),
        ({"dilated_stages": 1}, "BasicBlock cannot dilate its convolutions; BottleneckBlock can"),
    ],
)
def test_stages_that_cannot_dilate_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ResNetTrunk(**fields).init, KEY, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
