"""The U-Net of diffusion: diffusers' answers and names, what time and class do to it, and where it must refuse."""

from functools import partial
from pathlib import Path

import denoising_parity
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion, models, tasks
from etude.models import pretrained
from etude.models.generative.denoising_unet import DenoisingUNet, ResidualBlock
from etude.models.layers import GroupNorm, cosines_first, num_groups, sines_first

GOLDEN = Path(__file__).resolve().parents[2] / "golden"

SMALL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "num_classes": 3}
IN_GOLDEN = {
    "ddpm": DenoisingUNet(width=32, multipliers=(1, 2, 2), groups=8),
    "options": DenoisingUNet(
        width=32, multipliers=(1, 2), blocks=1, num_heads=4, groups=8, scale_shift=True, num_classes=5, out_channels=8
    ),
}


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 1))


@pytest.fixture(scope="module")
def variables(images):
    """Of the small network, by rule: many of its parameters begin at 0."""
    return denoising_parity.variables_by_rule(DenoisingUNet(**SMALL), images.shape[1:])


@pytest.fixture(scope="module")
def answer(variables, images):
    """(time, labels) -> what the small network answers."""
    return jax.jit(lambda *told: DenoisingUNet(**SMALL).apply(variables, images, *told))


def test_the_network_of_the_paper_has_diffusers_names_shapes_and_number_of_parameters():
    model, shape = models.create("ddpm_cifar10"), (32, 32, 3)
    empty = jax.tree.map(lambda x: np.broadcast_to(np.int8(0), x.shape), pretrained.template(model, shape))
    ours = [f"{key} {x.shape}" for key, x in sorted(pretrained.to_torch(model, empty).items())]
    assert ours == list(np.load(GOLDEN / "diffusers_unet.npz")["ddpm_cifar10"])
    assert models.count_parameters(model, shape) == 35_746_307  # 35.7 M: appendix B


@pytest.mark.parametrize("name", IN_GOLDEN)
def test_the_answer_and_every_gradient_norm_agree_with_diffusers(name):
    denoising_parity.check(np.load(GOLDEN / "diffusers_unet.npz"), name, IN_GOLDEN[name])


def test_a_published_network_answers_its_step_at_the_noise_that_it_learned_it_with():
    """Its step i comes after i + 1 betas, which is time (i + 1) / 1000 of our schedule."""
    model, betas = IN_GOLDEN["ddpm"], diffusion.linear_betas()
    images, steps, *_ = denoising_parity.noisy_images()
    predict = tasks.predictor(model, denoising_parity.variables_by_rule(model, images.shape[1:]))
    times = ((steps + 1) / 1000).astype(np.float32)
    whole = steps % 1 == 0
    level, learned = diffusion.from_betas(betas)(times[whole]), np.cumprod(1 - betas)[steps[whole].astype(int)]
    np.testing.assert_allclose(level.alpha**2, learned, rtol=2e-4)
    golden = np.load(GOLDEN / "diffusers_unet.npz")["ddpm_output"]
    answer = jax.jit(diffusion.from_published(predict, 1000))(images, times)
    assert np.abs(answer - golden).max() < 1e-4 * np.abs(golden).max()
    assert np.abs(jax.jit(predict)(images, times) - golden).max() > 1e-3 * np.abs(golden).max()  # another step


def test_files_with_the_old_names_of_attention_are_read_as_those_with_the_present_ones(variables):
    model = DenoisingUNet(**SMALL)
    named = pretrained.to_torch(model, variables)
    old = {}
    for name, x in named.items():
        for present, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(present, before)
        old[name] = x
    assert len(old.keys() - named.keys()) == 4 * 8  # four places that attend, four projections, kernel and bias
    for there in (named, old):
        ours, theirs = pretrained.from_torch(model, there, variables), variables
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_no_number_of_classes_is_read_off_a_network_without_classifier(variables):
    named = pretrained.to_torch(DenoisingUNet(**SMALL), variables)
    with pytest.raises(ValueError, match="DenoisingUNet has no classifier"):
        pretrained.num_classes(DenoisingUNet(**SMALL), named, (8, 8, 1))


def test_sinusoids_equal_their_closed_forms():
    # Angles reach 1000, where float32 has a spacing of 6e-5.
    time = np.array([0.0, 0.001, 0.4, 1.0])
    for i, t in enumerate(time):
        ends = [1000 * t * 10_000.0 ** (-k / 3) for k in range(4)]
        np.testing.assert_allclose(sines_first(jnp.asarray(time), 8)[i], [*np.sin(ends), *np.cos(ends)], atol=1e-4)
        open_end = [1000 * t * 10_000.0 ** (-k / 4) for k in range(4)]
        np.testing.assert_allclose(
            cosines_first(jnp.asarray(time), 8)[i], [*np.cos(open_end), *np.sin(open_end)], atol=1e-4
        )


def test_half_precision_does_not_round_the_time():
    # bfloat16 has no 0.999; its sinusoids would be those of another step.
    time = jnp.float32(0.999)
    model = DenoisingUNet(**SMALL, dtype=jnp.bfloat16)
    x = jnp.zeros((1, 8, 8, 1))
    text = str(jax.make_jaxpr(model.apply)(jax.eval_shape(model.init, jax.random.key(0), x, time), x, time))
    assert "f32[1,4] = sin" in text
    assert "bf16[1,4] = sin" not in text


def test_the_network_begins_by_answering_0_and_its_blocks_as_their_shortcuts(images):
    model = DenoisingUNet(width=4, multipliers=(1,), blocks=1, attention_levels=(0,))
    answer, _ = jax.jit(model.init_with_output)(jax.random.key(0), images, 0.5)
    np.testing.assert_array_equal(answer, jnp.zeros_like(images))
    x, told = jax.random.normal(jax.random.key(2), (2, 4, 4, 8)), jnp.ones((2, 5))
    answer, _ = jax.jit(partial(ResidualBlock(8).init_with_output, train=False))(jax.random.key(0), x, told)
    np.testing.assert_array_equal(answer, x)


def test_one_time_for_all_is_that_time_for_each(answer):
    np.testing.assert_allclose(answer(0.3, None), answer(jnp.array([0.3, 0.3]), None), rtol=1e-4, atol=1e-5)


def test_each_image_is_answered_for_its_own_time_and_class(answer):
    one, other = answer(jnp.array([0.1, 0.2]), jnp.array([0, 1])), answer(jnp.array([0.1, 0.9]), jnp.array([0, 1]))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-4, atol=1e-5)
    assert np.abs(one[1] - other[1]).max() > 0.01
    other = answer(jnp.array([0.1, 0.2]), jnp.array([0, 2]))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-4, atol=1e-5)
    assert np.abs(one[1] - other[1]).max() > 0.01


def test_no_labels_are_the_class_after_the_last(answer):
    np.testing.assert_allclose(answer(0.3, None), answer(0.3, jnp.array([3, 3])), rtol=1e-4, atol=1e-5)
    assert np.abs(answer(0.3, None) - answer(0.3, jnp.array([2, 2]))).max() > 0.01


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_that_there_is_not_gives_nan_to_its_image_alone(answer, label):
    y = answer(0.3, jnp.array([label, 0]))
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_group_norm_equals_its_closed_form_where_the_mean_is_large():
    x = 1000 + jax.random.normal(jax.random.key(0), (3, 4, 5, 24))
    scale, shift = jax.random.normal(jax.random.key(1), (2, 24))
    more, plus = jax.random.normal(jax.random.key(2), (2, 3, 24))
    y = GroupNorm(groups=4).apply({"params": {"scale": scale, "bias": shift}}, x, more, plus)
    wide = np.asarray(x, np.float64).reshape(3, 20, 4, 6)
    moments = wide.mean((1, 3), keepdims=True), wide.var((1, 3), keepdims=True)
    expected = ((wide - moments[0]) / np.sqrt(moments[1] + 1e-6)).reshape(3, 4, 5, 24) * scale + shift
    expected = expected * (1 + more[:, None, None]) + plus[:, None, None]
    # Numbers near 1000 are 6e-5 apart.
    np.testing.assert_allclose(y, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("channels", "most", "groups"), [(128, 32, 32), (384, 32, 32), (32, 32, 8), (96, 32, 24), (64, 8, 8), (30, 32, 6)]
)
def test_groups_are_as_many_as_asked_for_but_of_four_channels_at_least(channels, most, groups):
    assert num_groups(channels, most) == groups


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_few_channels_are_one_group(channels):
    assert num_groups(channels, 32) == 1


@pytest.fixture(scope="module")
def block():
    """(what it is told, rate of dropout) -> the answer of a narrow block."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    shapes = jax.eval_shape(partial(ResidualBlock(8).init, train=False), jax.random.key(0), x, jnp.ones((2, 5)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)

    def answer(told, rate):
        block = ResidualBlock(8, dropout=rate)
        return block.apply(variables, x, told, train=True, rngs={"dropout": jax.random.key(3)})

    return answer


def test_normalization_leaves_the_time_in_a_narrow_block(block):
    # With groups of one channel what the condition adds to a whole channel would be taken away again.
    one, other = jax.jit(jax.vmap(partial(block, rate=0.0)))(jnp.stack([jnp.zeros((2, 5)), jnp.ones((2, 5))]))
    assert np.abs(one - other).max() > 0.1


def test_a_population_of_rates_of_dropout_equals_each_alone(block):
    together = jax.jit(jax.vmap(partial(block, jnp.ones((2, 5)))))(jnp.array([0.0, 0.5]))
    for i, rate in enumerate([0.0, 0.5]):
        alone = jax.jit(partial(block, rate=rate))(jnp.ones((2, 5)))
        np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-3)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_nothing_is_dropped_at_prediction(variables, images, answer):
    dropping = jax.jit(DenoisingUNet(**SMALL, dropout=jnp.float32(0.9)).apply)(variables, images, 0.3)
    np.testing.assert_allclose(dropping, answer(0.3, None), rtol=1e-4, atol=1e-5)


def test_in_bfloat16_answers_are_float32_and_near_those_of_float32(variables, images, answer):
    y = jax.jit(DenoisingUNet(**SMALL, dtype=jnp.bfloat16).apply)(variables, images, 0.3)
    assert y.dtype == jnp.float32
    expected = answer(0.3, None)
    # bfloat16 has 8 bits of fraction; a few layers lose a few of them.
    np.testing.assert_allclose(y, expected, atol=2**-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("multipliers", "shape"),
    [((1, 2), (3, 8, 8, 1)), ((1, 2, 2), (2, 28, 28, 1)), ((1,), (2, 7, 5, 3)), ((1, 2, 2), (2, 12, 20, 3))],
)
@pytest.mark.parametrize("out_channels", [None, 5])
def test_any_grid_that_can_be_halved_often_enough_is_answered(multipliers, shape, out_channels):
    model = DenoisingUNet(width=8, multipliers=multipliers, attention_levels=(0,), out_channels=out_channels)
    answers, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros(shape), 0.5)
    assert answers.shape == (*shape[:3], out_channels or shape[3])


def test_attention_is_at_the_levels_asked_for_and_in_the_middle():
    def attending(levels):
        model = DenoisingUNet(**SMALL, attention_levels=levels)
        params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), 0.5)["params"]
        return sorted(name for name in params if "attention" in name)

    assert attending(()) == ["mid_attention0"]
    assert attending((0,)) == ["down0_attention0", "mid_attention0", "up1_attention0", "up1_attention1"]


@pytest.mark.parametrize(
    ("fields", "shape", "told", "message"),
    [
        ({}, (8, 8, 1), (0.5,), r"batch, height, width, channel.*\(8, 8, 1\)"),
        ({}, (2, 8, 7, 1), (0.5,), r"8×7 pixels cannot be halved 1 times.*multiples of 2"),
        ({"multipliers": (1, 2, 2)}, (2, 14, 14, 1), (0.5,), r"14×14 pixels cannot be halved 2 times.*multiples of 4"),
        ({"multipliers": ()}, (2, 8, 8, 1), (0.5,), "multipliers is empty"),
        ({"attention_levels": (2,)}, (2, 8, 8, 1), (0.5,), r"attention_levels is \(2,\); the levels are 0 to 1"),
        ({"num_heads": 3}, (2, 8, 8, 1), (0.5,), "num_heads is 3; it must divide the 16 channels"),
        ({"groups": 0}, (2, 8, 8, 1), (0.5,), "groups is 0; it must be at least 1"),
        ({"width": 7}, (2, 8, 8, 1), (0.5,), "width is 7; it must be even and at least 4"),
        ({"width": 2}, (2, 8, 8, 1), (0.5,), "width is 2; it must be even and at least 4"),
        ({"blocks": 0}, (2, 8, 8, 1), (0.5,), "blocks of at least 1; it is 0"),
        ({"num_heads": 0}, (2, 8, 8, 1), (0.5,), "num_heads of at least 1; it is 0"),
        ({"multipliers": (1, 0)}, (2, 8, 8, 1), (0.5,), r"multipliers of at least 1; it is \(1, 0\)"),
        ({"dropout": 1.5}, (2, 8, 8, 1), (0.5,), r"rate of dropout is 1\.5"),
        ({}, (2, 8, 8, 1), (jnp.zeros(3),), r"time must be one number or have shape \(2,\).*\(3,\)"),
        ({}, (2, 8, 8, 1), (jnp.array([1, 500]),), r"time must be floating, in \[0, 1\].*int32"),
        ({}, (2, 8, 8, 1), (0.5, jnp.zeros(1, int)), r"labels must be integers of shape \(2,\), in \[0, 3\].*\(1,\)"),
        ({}, (2, 8, 8, 1), (0.5, jnp.zeros(2)), "labels must be integers.*float32"),
        ({"num_classes": None}, (2, 8, 8, 1), (0.5, jnp.zeros(2, int)), "knows no classes"),
    ],
)
def test_wrong_fields_images_times_and_labels_are_refused(fields, shape, told, message):
    model = DenoisingUNet(**SMALL | fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(model.init, train=True), jax.random.key(0), jnp.zeros(shape), *told)
