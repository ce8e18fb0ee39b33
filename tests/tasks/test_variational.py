"""The variational task, and bounds of a linear Gaussian model, whose log p(x) is known.

With x = Wᵀz + b + σε, log p(x) is that of N(b, WᵀW + σ²I), and the posterior of z is Gaussian: with it as the encoder
every bound is exact, and with another encoder the evidence lower bound misses by the KL divergence between the two.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, losses, tasks, train
from etude.models import ConvVAE, DenseVAE
from etude.tasks import LIKELIHOODS
from scipy import stats

SHAPE = (2, 3, 1)
LINEAR = DenseVAE(image_shape=SHAPE, latent=2, hidden=())
SIGMA = 0.4


def linear_gaussian():
    """(decoder's W [latent, pixels] with orthogonal rows, b [pixels], exact posterior: kernel, bias, variance)."""
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.normal(0, 1, (6, 2)))[0].T * np.array([[0.9], [0.5]])
    b = rng.normal(0, 0.2, 6)
    variance = 1 / (1 + (w**2).sum(1) / SIGMA**2)
    kernel = w.T * variance / SIGMA**2
    return w, b, kernel, -b @ kernel, variance


def variables_of(shift=0.0, stretch=1.0):
    """Variables whose encoder is the exact posterior, or one whose means are moved and variances multiplied."""
    w, b, kernel, bias, variance = linear_gaussian()
    tree = {
        "encoder": {
            "output": {
                "kernel": np.concatenate([kernel, 0 * kernel], 1),
                "bias": np.concatenate([bias + shift, np.log(stretch * variance)]),
            }
        },
        "decoder": {"output": {"kernel": w, "bias": b}},
        "likelihood": {"log_scale": np.log(SIGMA)},
    }
    return {"params": jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)}


def log_density(batch):
    w, b, *_ = linear_gaussian()
    x = np.float64(batch["image"]).reshape(-1, 6) / 127.5 - 1
    return stats.multivariate_normal(b, w.T @ w + SIGMA**2 * np.eye(6)).logpdf(x)


def made_batch(size, shape=SHAPE, first=0):
    rng = np.random.default_rng(first)
    return {
        "image": rng.integers(0, 256, (size, *shape)).astype(np.uint8),
        "label": np.zeros(size, np.int32),
        "index": np.arange(first, first + size, dtype=np.int32),
    }


@pytest.fixture(scope="module")
def metrics_of(tools):
    """The loss and the metrics of each example, [batch]."""

    def metrics_of(task, variables, batch, key=0, train=False, hyper=None):
        key = jax.random.key(key) if isinstance(key, int) else key
        return tools.per_example(task, variables["params"], {}, batch, key, train, hyper or {})

    return metrics_of


def bounds(variables, batch, keys, samples):
    """[keys, batch]"""
    bound = partial(
        tasks.importance_weighted_bound, LINEAR, variables, batch, samples=samples, likelihood="gaussian", chunk=50
    )
    return np.asarray(jax.jit(jax.vmap(lambda key: bound(key)))(keys))


def test_with_the_exact_posterior_every_bound_is_the_log_density(metrics_of):
    batch, variables = made_batch(5), variables_of()
    task = tasks.variational_autoencoder(LINEAR, SHAPE, likelihood="gaussian")
    exact = log_density(batch)
    keys = jax.random.split(jax.random.key(0), 1000)
    for samples in (1, 7):
        np.testing.assert_allclose(bounds(variables, batch, keys[:20], samples), np.tile(exact, (20, 1)), rtol=1e-4)
    # The task's bound has the KL term in closed form, so that a draw is exact only in the mean.
    elbo = jax.jit(jax.vmap(lambda key: metrics_of(task, variables, batch, key)["elbo"]))(keys)
    assert (np.abs(elbo.mean(0) - exact) < 5 * elbo.std(0) / 1000**0.5).all()


def test_the_lower_bound_misses_the_log_density_by_the_divergence_from_the_posterior(metrics_of):
    batch, variables = made_batch(5), variables_of(shift=0.3, stretch=2.0)
    task = tasks.variational_autoencoder(LINEAR, SHAPE, likelihood="gaussian")
    variance = linear_gaussian()[-1]
    gap = losses.gaussian_kl_between(
        *(jnp.asarray(x, jnp.float32)[None] for x in ([0.3, 0.3], np.log(2 * variance), [0.0, 0.0], np.log(variance)))
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    elbo = jax.jit(jax.vmap(lambda key: metrics_of(task, variables, batch, key)["elbo"]))(keys)
    single = bounds(variables, batch, keys, 1)
    for draws in (elbo, single):
        error = draws.std(0) / 4000**0.5
        assert (np.abs(draws.mean(0) - (log_density(batch) - gap)) < 5 * error).all()
    assert gap > 0.5


def test_more_samples_bring_the_bound_to_the_log_density_from_below():
    batch, variables = made_batch(4), variables_of(shift=0.3, stretch=2.0)
    exact = log_density(batch)
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = [bounds(variables, batch, keys, samples) for samples in (1, 3, 12)]
    # The first samples are the same, so that the difference for a key is surer than that of two means.
    for fewer, more in itertools.pairwise(draws):
        gain = more - fewer
        assert (gain.mean(0) > 4 * gain.std(0) / 4000**0.5).all()
    assert (draws[-1].mean(0) < exact).all()
    many = bounds(variables, batch, keys[:100], 500)
    error = many.std(0) / 10
    assert (np.abs(many.mean(0) - exact) < 4 * error).all()
    assert (error < 0.01).all()


def test_chunks_change_memory_and_not_the_bound():
    batch, variables = made_batch(3), variables_of(shift=0.3)
    bound = partial(
        tasks.importance_weighted_bound, LINEAR, variables, batch, jax.random.key(0), 23, likelihood="gaussian"
    )
    whole = bound(chunk=23)
    for chunk in (1, 5, 10, 100):
        np.testing.assert_allclose(bound(chunk=chunk), whole, rtol=1e-5)


def test_the_bound_survives_likelihoods_that_no_float_holds():
    # Bits of 8 · 3072 pixels: e^(−17000) is 0 in float32, and a mean of such numbers is not its logarithm.
    model = DenseVAE(image_shape=(32, 32, 3), latent=2, hidden=())
    task = tasks.variational_autoencoder(model, (32, 32, 3), likelihood="discretized_logistic")
    variables = task.init(jax.random.key(0))
    batch = made_batch(2, (32, 32, 3))
    bound = tasks.importance_weighted_bound(
        model, variables, batch, jax.random.key(1), 20, likelihood="discretized_logistic"
    )
    assert np.isfinite(bound).all()
    assert (bound < -10_000).all()


def test_an_examples_numbers_are_a_function_of_the_key_and_its_index(metrics_of):
    batch, variables = made_batch(6), variables_of(shift=0.3)
    task = tasks.variational_autoencoder(LINEAR, SHAPE, likelihood="gaussian")
    bound = partial(tasks.importance_weighted_bound, LINEAR, variables, samples=3, likelihood="gaussian")
    order = np.array([4, 0, 5])
    part = {name: x[order] for name, x in batch.items()}
    for answer in (
        lambda batch, key: metrics_of(task, variables, batch, key)["elbo"],
        lambda batch, key: metrics_of(task, variables, batch, key, train=True)["elbo"],
        lambda batch, key: bound(batch, jax.random.key(key)),
    ):
        whole = answer(batch, 0)
        np.testing.assert_allclose(answer(part, 0), whole[order], rtol=1e-5)
        # Another key is another draw, and so is another index of the same image.
        assert np.abs(answer(batch, 1) - whole).min() > 1e-4
        assert np.abs(answer(batch | {"index": batch["index"] + 6}, 0) - whole).min() > 1e-4


def test_the_evaluation_of_a_split_does_not_depend_on_the_batch_size(source):
    model = DenseVAE(image_shape=(8, 8, 1), latent=3, hidden=(16,))
    task = tasks.variational_autoencoder(model, (8, 8, 1))
    variables = task.init(jax.random.key(0))
    evaluation = tasks.evaluation(task)
    expected = jax.tree.map(float, train.evaluator(evaluation, source, batch_size=100)(variables))
    assert expected.keys() == {"loss", "elbo", "reconstruction", "kl", "bits_per_dim"}
    for batch_size, resident in ((7, True), (32, False)):
        measured = train.evaluator(evaluation, source, batch_size=batch_size, resident=resident)(variables)
        assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_metrics_are_the_terms_of_the_bound(likelihood, metrics_of):
    model = ConvVAE(image_shape=(4, 8, 3), latent=3, features=(4,))
    task = tasks.variational_autoencoder(model, (4, 8, 3), likelihood=likelihood)
    variables, batch = task.init(jax.random.key(0)), made_batch(5, (4, 8, 3))
    for beta in (1.0, 4.0):
        hyper = {"beta": jnp.float32(beta)}
        metrics = metrics_of(task, variables, batch, 1, True, hyper)
        mean, aux = task.loss(variables["params"], {}, batch, jax.random.key(1), True, hyper)
        assert {float(x.weight) for x in (mean, *aux.metrics.values())} == {5}
        total = metrics["reconstruction"] + metrics["kl"]
        np.testing.assert_allclose(metrics["loss"], metrics["reconstruction"] + beta * metrics["kl"], rtol=1e-6)
        np.testing.assert_allclose(metrics["elbo"], -total, rtol=1e-6)
        np.testing.assert_allclose(metrics["bits_per_dim"], total / (96 * np.log(2)), rtol=1e-6)
        assert float(mean.value) == pytest.approx(float(metrics["loss"].mean()), rel=1e-5)
    # At prediction β is 1, whatever it was in training.
    predicted = metrics_of(task, variables, batch)
    np.testing.assert_allclose(predicted["loss"], -predicted["elbo"], rtol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_reconstruction_term_is_the_named_likelihood_of_the_scaled_image(likelihood, metrics_of):
    # Given a decoder that answers its bias whatever the latents are,
    batch, variables = made_batch(3), variables_of()
    task = tasks.variational_autoencoder(LINEAR, SHAPE, likelihood=likelihood)
    bias = jnp.linspace(-0.9, 0.8, 6)
    variables["params"]["decoder"]["output"] = {"kernel": jnp.zeros((2, 6)), "bias": bias}
    outputs = jnp.broadcast_to(bias, (3, 6))
    unit, signed = (
        jnp.asarray(x, jnp.float32).reshape(3, 6) for x in (batch["image"] / 255, batch["image"] / 127.5 - 1)
    )
    expected = {
        "bernoulli": lambda: losses.bernoulli_nll(outputs, unit),
        "squared_error": lambda: ((outputs - signed) ** 2).sum(-1) + 3 * np.log(np.pi),
        "gaussian": lambda: losses.gaussian_nll(outputs, 2 * np.log(SIGMA), signed),
        "discretized_gaussian": lambda: losses.discretized_gaussian_nll(outputs, 2 * np.log(SIGMA), signed),
        "discretized_logistic": lambda: losses.discretized_logistic_nll(outputs, np.log(SIGMA), signed),
    }[likelihood]()
    np.testing.assert_allclose(metrics_of(task, variables, batch)["reconstruction"], expected, rtol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_parameter_learns_also_the_scale_of_the_likelihood(likelihood):
    model = DenseVAE(image_shape=SHAPE, latent=2, hidden=(4,))
    task = tasks.variational_autoencoder(model, SHAPE, likelihood=likelihood)
    params, batch = task.init(jax.random.key(0))["params"], made_batch(8)
    assert ("likelihood" in params) == (LIKELIHOODS[likelihood].log_scale is not None)
    gradients = jax.jit(jax.grad(lambda p: task.loss(p, {}, batch, jax.random.key(1), True, {})[0].value))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert float(jnp.abs(leaf).max()) > 0, path


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


def trained(source, likelihood, steps, beta):
    """(model, task, state after some steps of 64 digits); steps and beta may be traced."""
    model = DenseVAE(image_shape=(8, 8, 1), latent=8, hidden=(64,))
    task = tasks.variational_autoencoder(model, (8, 8, 1), likelihood=likelihood)
    step = train.make_step(task, make_optimizer, lambda hyper: lambda step: hyper["learning_rate"])
    images = jnp.asarray(source.arrays()["image"])

    def body(number, state):
        index = jax.random.randint(jax.random.fold_in(jax.random.key(7), number), (64,), 0, len(images))
        return step(state, {"image": images[index], "index": index})[0]

    def run(steps, beta):
        state = train.create_state(task, make_optimizer, jax.random.key(0), {"learning_rate": 3e-3, "beta": beta})
        return jax.lax.fori_loop(0, steps, body, state)

    return model, task, (jax.jit(jax.vmap(run, (None, 0))) if jnp.ndim(beta) else jax.jit(run))(steps, beta)


def make_optimizer(rate, hyper):
    return train.adam(rate)


def test_a_population_of_betas_equals_each_alone_and_more_of_it_means_less_information(digits, metrics_of):
    betas = [0.1, 1.0, 10.0]
    _, task, early = trained(digits, "bernoulli", 3, jnp.array(betas))
    for i in (0, 2):
        _, _, alone = trained(digits, "bernoulli", 3, betas[i])
        for one, many in zip(jax.tree.leaves(alone.params), jax.tree.leaves(early.params), strict=True):
            # Adam divides by the root of squares, which enlarges the last bits of small gradients.
            np.testing.assert_allclose(many[i], one, rtol=1e-3, atol=1e-5)
    _, _, late = trained(digits, "bernoulli", 150, jnp.array(betas))
    batch = {"image": digits.arrays()["image"][:200], "index": np.arange(200)}
    information = jax.vmap(lambda params: metrics_of(task, {"params": params}, batch)["kl"].mean())(late.params)
    assert information[0] > 1.5 * information[1] > 1.5 * 1.5 * information[2]


def test_training_on_digits_finds_more_than_the_mean_image_and_more_samples_see_more_of_it(digits, metrics_of):
    # Given the best code of the same form without latents: the mean digit, and a scale,
    likelihood = "discretized_logistic"
    batch = {"image": digits.arrays()["image"][:200], "index": np.arange(200)}
    images = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    mean_digit = jnp.broadcast_to(images.mean(0), images.shape)
    nll = [losses.discretized_logistic_nll(mean_digit, s, images).mean() for s in np.linspace(-4, 0, 41)]
    without = float(losses.bits_per_dim(min(nll), 64))

    # when a model has trained for a few seconds,
    model, task, state = trained(digits, likelihood, 500, 1.0)
    metrics = metrics_of(task, state.variables, batch)

    # then its bound is better by a third of a bit a pixel, more draws tighten it,
    assert metrics["bits_per_dim"].mean() < without - 1 / 3
    bound = tasks.importance_weighted_bound(
        model, state.variables, batch, jax.random.key(0), 100, likelihood=likelihood
    )
    assert bound.mean() > metrics["elbo"].mean() + 1

    # and images come back, nearer to themselves than other digits and imagined ones are.
    mean, _ = tasks.encode_images(model, state.variables, batch["image"], likelihood=likelihood)
    errors = []
    for latents in (mean, jnp.roll(mean, 1, axis=0), jax.random.normal(jax.random.key(0), mean.shape)):
        decoded = tasks.decode_images(model, state.variables, latents, likelihood=likelihood)
        assert (decoded.shape, decoded.dtype) == ((200, 8, 8, 1), jnp.uint8)
        errors.append(np.abs(np.float32(decoded) - batch["image"]).mean())
    assert errors[0] < 0.5 * min(errors[1:])


def test_a_step_over_eight_devices_is_that_of_one(tools):
    model = DenseVAE(image_shape=SHAPE, latent=2, hidden=(4,))
    task = tasks.variational_autoencoder(model, SHAPE, likelihood="squared_error")
    step = train.make_step(task, make_optimizer, lambda hyper: lambda step: 1e-3)
    state = train.create_state(task, make_optimizer, jax.random.key(0), {})
    params = []
    for parallel in ("jit", "data"):
        layout = train.make_layout(parallel)
        compiled = layout.compile(step, ("state", "batch"), ("state", "members"))
        placed, _ = compiled(layout.place_state(state), layout.place_batch(made_batch(16), 0))
        params.append(layout.state(placed).params)
    assert tools.relative_difference(*params) < 1e-5


def test_unknown_likelihoods_and_counts_below_one_are_refused():
    valid = ", ".join(LIKELIHOODS)
    with pytest.raises(ValueError, match=f"'poisson'; valid are: {valid}"):
        tasks.variational_autoencoder(LINEAR, SHAPE, likelihood="poisson")
    with pytest.raises(ValueError, match="samples is 0"):
        tasks.importance_weighted_bound(LINEAR, variables_of(), made_batch(1), jax.random.key(0), 0)
    with pytest.raises(ValueError, match="chunk 0"):
        tasks.importance_weighted_bound(LINEAR, variables_of(), made_batch(1), jax.random.key(0), 5, chunk=0)


def test_pixels_are_white_as_often_as_their_gray_says():
    gray = np.array([0, 64, 128, 255], np.uint8)
    batch = {"image": np.broadcast_to(gray.reshape(2, 2, 1), (4000, 2, 2, 1)), "index": np.arange(4000)}
    drawn = np.asarray(tasks.binarize(batch)["image"])
    assert drawn.dtype == np.uint8
    assert set(np.unique(drawn)) == {0, 255}
    share = (drawn == 255).mean(0).ravel()
    np.testing.assert_allclose(share, gray / 255, atol=5 * 0.5 / 4000**0.5)
    np.testing.assert_array_equal(share[[0, 3]], [0, 1])
    np.testing.assert_array_equal(tasks.binarize({name: x[7:9] for name, x in batch.items()})["image"], drawn[7:9])


@pytest.mark.parametrize("binarized", tasks.BINARIZATIONS)
def test_black_and_white_is_drawn_anew_in_training_only_if_asked_for(binarized, metrics_of):
    model = DenseVAE(image_shape=SHAPE, latent=2, hidden=())
    task = tasks.variational_autoencoder(model, SHAPE, binarized=binarized)
    plain = tasks.variational_autoencoder(model, SHAPE)
    batch, variables = made_batch(5), task.init(jax.random.key(0))

    def of(task, batch, **choices):
        return metrics_of(task, variables, batch, **choices)["kl"]  # which depends on the image alone

    fixed = of(plain, tasks.binarize(batch))
    np.testing.assert_allclose(of(task, batch), fixed, rtol=1e-6)
    trained = [of(task, batch, key=key, train=True) for key in (0, 1)]
    if binarized == "static":
        np.testing.assert_allclose(trained, [fixed, fixed], rtol=1e-6)
    else:
        assert np.abs(trained[0] - trained[1]).max() > 1e-3


def test_the_likelihood_of_black_and_white_images_sums_to_1():
    model = DenseVAE(image_shape=(1, 2, 1), latent=1, hidden=())
    variables = tasks.variational_autoencoder(model, (1, 2, 1)).init(jax.random.key(0))
    every = np.array(list(itertools.product([0, 255], repeat=2)), np.uint8).reshape(4, 1, 2, 1)
    bound = tasks.importance_weighted_bound(
        model, variables, {"image": every, "index": np.arange(4)}, jax.random.key(1), 20_000, chunk=20_000
    )
    assert np.exp(bound).sum() == pytest.approx(1, abs=0.02)  # estimates of the evidence, 20,000 draws each


def test_a_way_to_binarize_that_there_is_not_is_told():
    with pytest.raises(ValueError, match="binarized is 'both'; valid are None, static, dynamic"):
        tasks.variational_autoencoder(LINEAR, SHAPE, binarized="both")
