"""Conversions between predictions, weightings and guidance."""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion

SCHEDULES = {"linear": diffusion.linear(), "cosine": diffusion.cosine(), "flow": diffusion.rectified_flow()}
TIMES = jnp.array([0.1, 0.35, 0.5, 0.8])


@pytest.fixture
def example(key):
    """(x_0, ε) [4, 2, 3]"""
    return jax.random.normal(key, (2, 4, 2, 3))


@pytest.mark.parametrize(("schedule", "prediction"), list(product(SCHEDULES, diffusion.PREDICTIONS)))
def test_image_and_noise_come_back_out_of_each_prediction(schedule, prediction, example):
    (x0, noise), level = example, SCHEDULES[schedule](TIMES)
    x = diffusion.diffuse(x0, noise, level)
    predicted = diffusion.target(prediction, x0, noise, level)
    for found, wanted in zip(diffusion.split(prediction, predicted, x, level), (x0, noise), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)  # divided by α or σ of at least 0.1


@pytest.mark.parametrize(("one", "other"), list(product(diffusion.PREDICTIONS, repeat=2)))
def test_conversions_invert_each_other(one, other, example):
    x, predicted = example  # any x_t and any prediction, not only a perfect one
    level = diffusion.cosine()(TIMES)
    there = diffusion.convert(one, other, predicted, x, level)
    back = diffusion.convert(other, one, there, x, level)
    np.testing.assert_allclose(back, predicted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("prediction", "by_hand"),
    [("x0", 2.0), ("epsilon", -1.0), ("v", -2.2), ("flow", -3.0)],  # 0.6 · (−1) − 0.8 · 2 and −1 − 2
)
def test_the_targets_of_one_pixel_are_those_worked_by_hand(prediction, by_hand):
    x0, noise, level = jnp.array([[2.0]]), jnp.array([[-1.0]]), diffusion.Level(jnp.array(0.6), jnp.array(0.8))
    np.testing.assert_allclose(diffusion.target(prediction, x0, noise, level), [[by_hand]], rtol=1e-6)
    x = jnp.array([[0.4]])  # 0.6 · 2 + 0.8 · (−1)
    found = diffusion.split(prediction, jnp.array([[by_hand]]), x, level)
    np.testing.assert_allclose(found, [[[2.0]], [[-1.0]]], rtol=1e-5)


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
def test_the_parts_of_any_prediction_make_up_x_t_again(prediction, example):
    x, predicted = example  # any x_t and any prediction, not only a perfect one
    level = diffusion.linear()(TIMES)
    again = diffusion.diffuse(*diffusion.split(prediction, predicted, x, level), level)
    np.testing.assert_allclose(again, x, rtol=1e-3, atol=1e-4)


def test_v_is_the_derivative_by_the_angle_and_turns_back_into_the_image(example):
    x0, noise = example

    def diffused(angle):
        return diffusion.diffuse(x0, noise, diffusion.Level(jnp.cos(angle), jnp.sin(angle)))

    x, derivative = jax.jvp(diffused, (jnp.float32(0.7),), (jnp.float32(1.0),))
    v = diffusion.target("v", x0, noise, diffusion.Level(jnp.cos(0.7), jnp.sin(0.7)))
    np.testing.assert_allclose(v, derivative, rtol=1e-5, atol=1e-6)  # Salimans & Ho 2022, appendix D
    np.testing.assert_allclose(np.cos(0.7) * x - np.sin(0.7) * v, x0, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(x**2 + v**2, x0**2 + noise**2, rtol=1e-4)  # a rotation


def test_a_flow_prediction_is_the_time_derivative_of_a_rectified_flow(example):
    x0, noise = example
    schedule = diffusion.rectified_flow()
    path = lambda t: diffusion.diffuse(x0, noise, schedule(t))
    _, velocity = jax.jvp(path, (0.3,), (1.0,))
    np.testing.assert_allclose(velocity, diffusion.target("flow", x0, noise, schedule(0.3)), rtol=1e-5)


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
def test_a_denoiser_gives_the_image_whatever_its_network_predicts(prediction, example):
    (x0, noise), schedule = example, diffusion.cosine()

    def predict(x, time):
        assert time.shape == (4,)
        return diffusion.target(prediction, x0, noise, schedule(time))

    x = diffusion.diffuse(x0, noise, schedule(0.4))
    np.testing.assert_allclose(diffusion.denoiser(predict, prediction, schedule)(x, 0.4), x0, rtol=1e-3, atol=1e-5)
    clipped = diffusion.denoiser(predict, prediction, schedule, threshold=lambda x: x.clip(-0.5, 0.5))
    np.testing.assert_allclose(clipped(x, 0.4), x0.clip(-0.5, 0.5), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
def test_a_weighting_counts_an_error_of_the_image_the_same_whatever_is_predicted(prediction, example):
    (x0, noise), level = example, diffusion.cosine()(TIMES)
    x, ratio = diffusion.diffuse(x0, noise, level), jnp.exp(level.log_snr)
    wrong = x0 + 0.1
    predicted = diffusion.target(prediction, wrong, (x - level.like(x).alpha * wrong) / level.like(x).sigma, level)
    error = ((predicted - diffusion.target(prediction, x0, noise, level)) ** 2).mean((1, 2))
    np.testing.assert_allclose(diffusion.snr(prediction, level) * error, ratio * 0.01, rtol=2e-3)
    expected = jnp.minimum(ratio, 2.5) * 0.01
    np.testing.assert_allclose(diffusion.min_snr(2.5)(prediction, level) * error, expected, rtol=2e-3)


def test_the_weightings_of_a_noise_prediction_are_the_papers():
    level = diffusion.linear()(TIMES)
    np.testing.assert_allclose(diffusion.snr("epsilon", level), 1, rtol=1e-5)
    np.testing.assert_allclose(diffusion.simple("epsilon", level), 1)
    ratio = jnp.exp(level.log_snr)  # Hang et al. 2023: min(SNR, γ) / SNR
    np.testing.assert_allclose(diffusion.min_snr(5.0)("epsilon", level), jnp.minimum(ratio, 5) / ratio, rtol=1e-5)


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
@pytest.mark.parametrize("weighting", [diffusion.snr, diffusion.min_snr()])
def test_a_weighting_has_its_limit_where_nothing_is_left_of_the_image(prediction, weighting):
    at, near = weighting(prediction, diffusion.rectified_flow()(jnp.array([1.0, 0.9999])))
    np.testing.assert_allclose(at, near, atol=1e-3)


@pytest.mark.parametrize(
    ("prediction", "at_no_noise", "at_no_image"),
    [("x0", (math.inf, 5), (0, 0)), ("epsilon", (1, 0), (1, 1)), ("v", (1, 0), (0, 0)), ("flow", (1, 0), (0, 0))],
)
def test_weightings_have_their_limits_at_both_ends(prediction, at_no_noise, at_no_image):
    for schedule in (diffusion.rectified_flow(), diffusion.from_betas([0.1, 1.0])):
        level = schedule(jnp.array([0.0, 1.0]))
        assert level.log_snr.tolist() == [math.inf, -math.inf]
        for weighting, *wanted in zip((diffusion.snr, diffusion.min_snr(5.0)), at_no_noise, at_no_image, strict=True):
            np.testing.assert_allclose(weighting(prediction, level), wanted, rtol=1e-6)


def test_a_prediction_of_the_image_is_it_where_there_is_no_noise_and_one_of_noise_where_there_is_no_image(example):
    (x0, noise), schedule = example, diffusion.rectified_flow()
    assert (diffusion.denoiser(lambda x, t: x0, "x0", schedule)(x0, 0.0) == x0).all()
    assert (diffusion.convert("epsilon", "epsilon", noise, noise, schedule(1.0)) == noise).all()
    slope = jax.grad(lambda p: diffusion.denoiser(lambda x, t: p, "epsilon", schedule, first=0.9)(x0, 0.5).sum())(noise)
    np.testing.assert_allclose(slope, -1, rtol=1e-5)  # x_0 = (x − σ ε) / α


@pytest.mark.parametrize("schedule", [diffusion.rectified_flow(), diffusion.from_betas([0.1, 1.0])])
def test_a_prediction_of_noise_is_refused_where_there_is_nothing_else(schedule):
    predict = lambda x, t: x
    with pytest.raises(ValueError, match=r"At time 1\.0 nothing is left of the image.* give `first`"):
        diffusion.denoiser(predict, "epsilon", schedule)
    denoise = diffusion.denoiser(predict, "epsilon", schedule, first=0.9)
    times = diffusion.uniform_times(2, first=0.9)
    found = diffusion.sample(diffusion.ddim(denoise, schedule), jnp.ones((2, 3)), times)
    assert np.isfinite(found).all()
    for prediction in ("x0", "v", "flow"):
        diffusion.denoiser(predict, prediction, schedule)


def test_what_is_per_example_does_not_reach_channels_that_are_as_many():
    """Four images of four rows, columns and channels: whatever takes the wrong axis fits all the same."""
    conditional, unconditional, x = jax.random.normal(jax.random.key(0), (3, 4, 4, 4, 4))
    numbers, labels = jnp.array([0.1, 0.35, 0.5, 0.8]), jnp.arange(4)
    schedule, keys, times = diffusion.cosine(), jax.random.split(jax.random.key(1), 4), jnp.array([0.9, 0.8, 0.7, 0.6])
    predict = lambda x, t, labels: diffusion.per_example(t, x) * x + diffusion.per_example(labels, x)
    estimate = lambda x, t: 0.5 * x
    steps = {
        "ancestral": diffusion.ancestral(estimate, schedule, variance=0.3),
        "ddim": diffusion.ddim(estimate, schedule, eta=0.5),
        "euler": diffusion.euler(diffusion.probability_flow(estimate, schedule)),
        "heun": diffusion.heun(diffusion.probability_flow(estimate, schedule)),
        "dpm_solver_2m": diffusion.dpm_solver_2m(estimate, schedule),
    }

    def one_step(name):
        def take(x, key, time, to):
            noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(key)
            sampler = steps[name]
            step = diffusion.samplers.Step(time, to, lambda: noise, jnp.array(False))
            return sampler.step(x, sampler.init(x), step)[0]

        return take, (x, keys, times, numbers)

    cases = {
        "guide": (diffusion.guide, (conditional, unconditional, numbers)),
        "rescaled": (lambda a, b, phi: diffusion.guide(a, b, 3.0, rescale=phi), (conditional, unconditional, numbers)),
        "guided": (lambda x, y, t, w: diffusion.guided(predict, y, 4, w)(x, t), (x, labels, numbers, 1 + numbers)),
        "diffuse": (lambda a, e, t: diffusion.diffuse(a, e, schedule(t)), (x, conditional, numbers)),
        "target": (lambda a, e, t: diffusion.target("v", a, e, schedule(t)), (x, conditional, numbers)),
        "split": (lambda p, a, t: diffusion.split("v", p, a, schedule(t))[0], (conditional, x, numbers)),
        "convert": (lambda p, a, t: diffusion.convert("v", "x0", p, a, schedule(t)), (conditional, x, numbers)),
        "posterior": (
            lambda a, b, t, s: diffusion.posterior(a, b, schedule(t), schedule(s))[0],
            (x, x, times, numbers),
        ),
        "denoiser": (lambda a, t: diffusion.denoiser(lambda x, t: 0.5 * x, "v", schedule)(a, t), (x, numbers)),
        "probability_flow": (diffusion.probability_flow(estimate, schedule), (x, numbers)),
        **{name: one_step(name) for name in steps},
    }
    for name, (function, arguments) in cases.items():
        together = function(*arguments)
        for i in range(4):
            alone = function(*(argument[i : i + 1] for argument in arguments))
            np.testing.assert_allclose(together[i], alone[0], rtol=2e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("value", [jnp.ones(3), jnp.ones((2, 2)), jnp.ones((1, 2))])
def test_a_number_per_example_has_the_shape_of_the_batch(value):
    with pytest.raises(ValueError, match=r"expected one number, or \(2,\)"):
        diffusion.per_example(value, jnp.ones((2, 3)))


def test_a_network_that_counts_from_0_is_told_the_step_before():
    seen = []
    told = diffusion.from_published(lambda x, times, labels: seen.append(np.asarray(times)) or x, 1000)
    diffusion.guided(told, jnp.zeros(2, int), 1, 2.0)(jnp.ones((2, 3)), jnp.array([1 / 1000, 1.0]))
    np.testing.assert_allclose(seen[0], [0, 0.999, 0, 0.999], atol=1e-7)


def test_guidance_of_1_is_the_conditional_model_and_of_0_the_unconditional_one(example):
    conditional, unconditional = example
    np.testing.assert_allclose(diffusion.guide(conditional, unconditional, 1.0), conditional, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(diffusion.guide(conditional, unconditional, 0.0), unconditional)


def test_guidance_goes_beyond_the_conditional_model_and_rescaling_keeps_its_spread(example):
    conditional, unconditional = example
    far = diffusion.guide(conditional, unconditional, 4.0)
    np.testing.assert_allclose(far, 4 * conditional - 3 * unconditional, rtol=1e-4, atol=1e-5)
    spread = lambda x: x.std((1, 2))
    rescaled = diffusion.guide(conditional, unconditional, 4.0, rescale=1.0)
    np.testing.assert_allclose(spread(rescaled), spread(conditional), rtol=1e-5)
    halfway = diffusion.guide(conditional, unconditional, 4.0, rescale=0.5)
    np.testing.assert_allclose(halfway, (far + rescaled) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rescale", [0.7, jnp.float32(0.7)])
def test_rescaling_leaves_a_prediction_without_spread_as_it_is(rescale):
    flat = jnp.zeros((2, 3, 3))  # of a network whose last layer begins at 0
    np.testing.assert_array_equal(diffusion.guide(flat, flat, 2.0, rescale=rescale), flat)


def test_a_guided_network_sees_labels_and_none_in_one_batch(example):
    x, labels, calls = example[0], jnp.array([0, 1, 2, 0]), []

    def predict(x, time, labels):
        calls.append(len(x))
        return x * time[:, None, None] + labels[:, None, None]

    time = jnp.full(4, 0.5)
    given = diffusion.guided(predict, labels, 3, 2.0)(x, time)
    expected = 0.5 * x + (3 + 2.0 * (labels - 3))[:, None, None]
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    alone = diffusion.guided(predict, labels, 3, 1)(x, time)
    np.testing.assert_allclose(alone, predict(x, time, labels))
    assert calls[:2] == [8, 4]


def test_guidance_is_the_same_in_the_space_of_any_prediction(example):
    (conditional, unconditional), schedule = example, diffusion.cosine()
    x, level = conditional[::-1], schedule(0.3)
    guided = diffusion.guide(conditional, unconditional, 3.0)
    as_image = diffusion.split("v", guided, x, level)[0]
    images = [diffusion.split("v", each, x, level)[0] for each in (conditional, unconditional)]
    np.testing.assert_allclose(as_image, diffusion.guide(*images, 3.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, level: diffusion.target("eps", x, x, level), "no prediction 'eps'. Valid are: x0, epsilon, v, flow"),
        (lambda x, level: diffusion.denoiser(lambda x, t: x, "eps", diffusion.linear()), "no prediction 'eps'"),
        (lambda x, level: diffusion.simple("eps", level), "no prediction 'eps'"),
        (lambda x, level: diffusion.split("v", jnp.ones((2, 6)), x, level), "learned variance"),
        (lambda x, level: diffusion.min_snr(0), "must be positive"),
        (lambda x, level: diffusion.min_snr(math.inf), "gamma is inf"),
        (lambda x, level: diffusion.guide(x, x, math.nan), "guidance scale is nan"),
        (lambda x, level: diffusion.guide(x, x, jnp.array([1.0, math.inf])), "guidance scale is .*inf"),
        (lambda x, level: diffusion.guide(x, x, 2.0, rescale=jnp.array([0.5, 1.5])), "rescale is .*1.5"),
        (lambda x, level: diffusion.guide(x, x, jnp.ones(3)), "per example has shape"),
        (lambda x, level: diffusion.guide(x, x[:1], 2.0), "not one"),
        (lambda x, level: diffusion.guided(lambda *_: x, jnp.arange(1), 3, 2.0)(x, 0.5), "labels have shape"),
        (lambda x, level: diffusion.guided(lambda *_: x, jnp.arange(1), 3, 1)(x, 0.5), "labels have shape"),
        (lambda x, level: diffusion.diffuse(x, x, diffusion.linear()(jnp.ones(3))), "per example has shape"),
        (lambda x, level: diffusion.split("epsilon", x, x, diffusion.rectified_flow()(1.0)), "nothing about x_0"),
        (lambda x, level: diffusion.split("x0", x, x, diffusion.rectified_flow()(0.0)), "nothing about ε"),
        (lambda x, level: diffusion.from_published(lambda x, t: x, 0), "num_steps is 0"),
        (lambda x, level: diffusion.guided(lambda *_: x, jnp.arange(2), 3, 2.0, rescale=5), "rescale is 5"),
    ],
)
def test_what_is_not_valid_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((2, 3)), diffusion.linear()(0.5))
