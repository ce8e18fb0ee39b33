"""ResNets: parameter counts of the papers, torchvision's answers, and what depth must not change."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses, models
from etude.models import pretrained, resnet

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from weights import inputs, weight  # noqa: E402


@pytest.mark.parametrize(
    ("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]
)
def test_imagenet_networks_have_the_published_number_of_parameters(depth, count):
    assert models.count_parameters(models.create(f"resnet{depth}"), (224, 224, 3)) == count


@pytest.mark.parametrize("depth", [8, 20, 56, 110, 1202])
@pytest.mark.parametrize("family", ["resnet", "plain"])
def test_cifar_networks_count_as_written_out(depth, family):
    n = (depth - 2) // 6
    stem = 27 * 16 + 32
    stages = sum(
        9 * before * width + 9 * width * width * (2 * n - 1) + 4 * n * width
        for before, width in ((16, 16), (16, 32), (32, 64))
    )
    model = models.create(f"cifar_{family}{depth}")
    assert models.count_parameters(model, (32, 32, 3)) == stem + stages + 64 * 10 + 10


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_and_gradients_agree_with_torchvision(name, mode, precision):
    golden = np.load(GOLDEN / "torchvision_resnet.npz")
    with jax.enable_x64(precision == "float64"):
        logits, gradients = answer(name, mode, precision)
    expected = golden[f"{name}_{mode}_logits"]
    wanted = golden[f"{name}_{mode}_gradient_norms"]
    norms = [np.linalg.norm(gradients[key].astype(np.float64)) for key in golden[f"{name}_{mode}_gradient_names"]]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    if precision == "float64":  # but for logits and loss, which are float32 always
        np.testing.assert_allclose(norms, wanted, rtol=1e-5, atol=1e-6 * wanted.max())
    else:
        # BatchNorm over the 16 values of the last stage amplifies rounding: torchvision's own float32 gradient of
        # resnet50 in training is 7e-4 from its float64 one, ours 4e-4 with jax 0.10 and 1.3e-3 with jax 0.11.
        tolerance = 3e-3 if (name, mode) == ("resnet50", "train") else 1e-4
        np.testing.assert_allclose(np.linalg.norm(norms), np.linalg.norm(wanted), rtol=tolerance)


def answer(name, mode, precision):
    """(logits, gradients under torchvision's names) of our network with the weights of the golden run."""
    images, labels = inputs()
    model = models.create(name, dtype=jnp.dtype(precision), param_dtype=jnp.dtype(precision))
    template = jax.eval_shape(model.init, jax.random.key(0), images)
    shapes = pretrained.to_torchvision(jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), template))
    variables = pretrained.from_torchvision(
        {key: weight(key, x.shape).astype(precision) for key, x in shapes.items()}, template
    )

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(params):
        rest = {"params": params, "batch_stats": variables["batch_stats"]}
        if mode == "train":
            logits, _ = model.apply(rest, images, train=True, mutable=["batch_stats"])
        else:
            logits = model.apply(rest, images)
        return losses.cross_entropy(logits, jnp.asarray(labels)).mean(), logits

    gradients, logits = gradient(variables["params"])
    return np.asarray(logits), pretrained.to_torchvision({"params": gradients})


def test_the_way_to_torchvision_and_back_is_exact():
    model = resnet.cifar(14, shortcut="project")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    back = pretrained.from_torchvision(pretrained.to_torchvision(variables), variables)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), back, variables)))


def test_weights_that_do_not_fit_are_listed():
    variables = resnet.cifar(8).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    named = pretrained.to_torchvision(variables)
    named["fc.bias"] = named["fc.bias"][:3]
    named["head"] = named.pop("bn1.weight")
    with pytest.raises(ValueError, match=r"missing: bn1\.weight; unknown: head; of another shape: fc\.bias"):
        pretrained.from_torchvision(named, variables)


def test_scanned_blocks_equal_the_same_blocks_one_after_another():
    # Given a network of three equal blocks whose stem, pooling and head can be written in a line each,
    model = resnet.cifar(20, num_classes=4)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    _, intermediates = model.apply(variables, x, capture_intermediates=lambda module, _: module.name == "layer1_first")

    # when the scanned blocks' parameters are unstacked and applied in turn,
    y = intermediates["intermediates"]["layer1_first"]["__call__"][0]
    for i in range(2):
        block = {kind: jax.tree.map(lambda leaf: leaf[i], variables[kind]["layer1_rest"]) for kind in variables}  # noqa: B023
        y = resnet.BasicBlock(16).apply(block, y, False)

    # then a network of that first stage alone gives their answer.
    alone = resnet.ResNet(num_classes=4, stage_sizes=(3,), width=16, imagenet_stem=False)
    kept = {kind: {part: variables[kind][part] for part in STAGE_1 if part in variables[kind]} for kind in variables}
    head = {"kernel": jnp.eye(16, 4), "bias": jnp.zeros(4)}
    kept["params"]["fc"] = head
    np.testing.assert_allclose(alone.apply(kept, x), y.mean((1, 2))[:, :4], rtol=1e-5, atol=1e-6)


STAGE_1 = ("conv1", "bn1", "layer1_first", "layer1_rest")


def test_with_zero_initialised_residuals_a_block_begins_as_the_identity():
    block = resnet.BasicBlock(16, zero_init_residual=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 16))
    y, _ = block.init_with_output(jax.random.key(1), x, True)
    np.testing.assert_array_equal(y, jax.nn.relu(x))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (33, 17, 3)])
@pytest.mark.parametrize("name", ["resnet8", "plain8", "resnet18"])
def test_any_image_shape_gives_float32_logits(name, shape):
    logits = jax.eval_shape(
        lambda x: models.create(name, num_classes=7, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x)[0],
        jnp.zeros((2, *shape)),
    )
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)


def test_the_program_of_a_training_step_does_not_grow_with_depth():
    def equations(depth):
        """How many equations the program has, those of its loops counted once."""
        model = resnet.cifar(depth)
        x = jnp.zeros((2, 8, 8, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), x)

        def loss(params, stats):
            logits, _ = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return logits.sum()

        program = jax.make_jaxpr(jax.grad(loss))(variables["params"], variables["batch_stats"])
        return str(program).count(" = ")

    assert equations(1202) == equations(20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.create("resnet21"), "no model 'resnet21'"),
        (lambda: models.create("cifar_resnet21"), "depth is 21; .* 6n"),
        (lambda: models.create("resnet20", classes=3), "no field classes.*num_classes"),
        (lambda: resnet.imagenet(20), "18, 34, 50"),
        (lambda: models.count_parameters(models.create("resnet8"), (1, 8, 8, 3)), "without a batch"),
        (lambda: models.create("resnet8").init(jax.random.key(0), jnp.zeros((8, 8, 1))), "height, width, channel"),
    ],
)
def test_wrong_names_depths_fields_and_ranks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_resnet_1202_trains_a_step():
    model = models.create("resnet1202")
    x = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    @jax.jit
    def step(params, stats):
        def loss(params):
            logits, _ = model.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
            return losses.cross_entropy(logits, jnp.arange(4)).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradients)

    value, params = step(variables["params"], variables["batch_stats"])
    assert jnp.isfinite(value)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(params))
