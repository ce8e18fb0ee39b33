"""Vector quantization: the nearest code by brute force, gradients, averages against their recursion, and dead codes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.generative import VQVAE, Codebook, follow, perplexity, quantize, revive, straight_through

SMALL = {"channels": 3, "features": 8, "block_features": 4, "blocks": 1, "num_codes": 16, "code_dim": 5}


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (4, 8, 12, 3), minval=-1.0)


@pytest.fixture(scope="module")
def model():
    return VQVAE(**SMALL)


@pytest.fixture(scope="module")
def variables(model, images):
    """Of the small network, with codes as large as what they stand for."""
    variables = initial(model, images)
    vectors = apply(model, variables, images, method="encode").reshape(-1, 5)
    codes = vectors[:16] + 0.1 * jax.random.normal(jax.random.key(2), (16, 5))
    return variables | {"codebook": {"quantizer": variables["codebook"]["quantizer"] | {"codes": codes}}}


def codebook_of(codes, counts=1.0):
    counts = jnp.broadcast_to(jnp.asarray(counts, jnp.float32), (len(codes),))
    return Codebook(codes, counts, counts[:, None] * codes)


@partial(jax.jit, static_argnums=0)
def step_of(model, variables, images):
    return trained(model, variables, images)


def trained(model, variables, images):
    """(answer, codebook) of a step in training."""
    rngs = {"revive": jax.random.key(0)}
    answer, updated = model.apply(variables, images, train=True, rngs=rngs, mutable=["codebook"])
    return answer, updated["codebook"]["quantizer"]


# Models are static, so that equal ones share their programs.
@partial(jax.jit, static_argnums=0)
def initial(model, images):
    return model.init(jax.random.key(0), images)


@partial(jax.jit, static_argnames=("model", "method"))
def apply(model, variables, x, method="__call__"):
    return model.apply(variables, x, method=method)


# Far from the origin, squares of norms in float32 would hold no digit of what tells the codes apart.
@pytest.mark.parametrize("offset", [0, 3000])
def test_the_nearest_code_is_that_of_brute_force_in_float64(offset):
    rng = np.random.default_rng(0)
    z = np.float32(rng.normal(0, 1, (7, 5, 6, 8)) + offset)
    codes = np.float32(rng.normal(0, 1, (50, 8)) + offset)
    distances = ((np.float64(z)[..., None, :] - np.float64(codes)) ** 2).sum(-1)
    indices, quantized = jax.jit(quantize)(z, codes)
    assert (indices.shape, indices.dtype) == ((7, 5, 6), jnp.int32)
    np.testing.assert_array_equal(indices, distances.argmin(-1))
    np.testing.assert_array_equal(quantized, codes[distances.argmin(-1)])


def test_of_equally_near_codes_the_first_is_taken():
    codes = jnp.array([[1.0, 0], [0, 1], [0, -1], [0, 1]])
    np.testing.assert_array_equal(quantize(jnp.array([[0.0, 0], [0, 2]]), codes)[0], [0, 1])


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z, codes = jax.random.normal(jax.random.key(0), (2, 6, 3))

    def answer(z, codes):
        return straight_through(z, quantize(z, codes)[1])

    np.testing.assert_array_equal(answer(z, codes), quantize(z, codes)[1])
    by_z, by_codes = jax.jacobian(answer, (0, 1))(z, codes)
    np.testing.assert_array_equal(by_z.reshape(18, 18), np.eye(18))
    np.testing.assert_array_equal(by_codes, 0)


def test_perplexity_counts_the_codes_that_are_used_equally():
    counts = jnp.array([[5, 5, 5, 5], [0, 7, 0, 0], [3, 0, 3, 0], [4, 2, 1, 1]])
    # ½ · 1 + ¼ · 2 + 2 · ⅛ · 3 bits are 1.75.
    np.testing.assert_allclose(perplexity(counts), [4, 1, 2, 2**1.75], rtol=1e-6)


def test_with_no_memory_each_code_becomes_the_mean_of_its_vectors():
    z = jax.random.normal(jax.random.key(0), (200, 3))
    codes = jax.random.normal(jax.random.key(1), (6, 3))
    indices, _ = quantize(z, codes)
    moved = follow(codebook_of(codes), z, indices, 0.0)
    for i in range(6):
        assert (indices == i).any()
        np.testing.assert_allclose(moved.codes[i], z[indices == i].mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(moved.counts, np.bincount(indices, minlength=6))


def test_averages_follow_the_recursion_of_the_paper():
    rng = np.random.default_rng(0)
    codebook = codebook_of(jnp.asarray(rng.normal(0, 1, (4, 2)), jnp.float32))
    counts, sums = np.ones(4), np.float64(codebook.codes)
    for _ in range(20):
        z = np.float32(rng.normal(0, 1, (3, 5, 2)))
        indices, _ = quantize(z, codebook.codes)
        chosen = np.eye(4)[np.asarray(indices).ravel()]
        counts = 0.9 * counts + 0.1 * chosen.sum(0)
        sums = 0.9 * sums + 0.1 * chosen.T @ z.reshape(-1, 2)
        codebook = jax.jit(follow)(codebook, z, indices, 0.9)
    np.testing.assert_allclose(codebook.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(codebook.sums, sums, rtol=1e-4, atol=1e-5)
    # Up to the pseudo-count of 1e-5 beside counts of about 1.
    np.testing.assert_allclose(codebook.codes, sums / counts[:, None], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3000])
def test_a_code_that_nobody_chooses_stays_where_it_is(steps):
    codes = jnp.array([[0.0, 0], [100, 100]])
    z = jnp.ones((10, 2))

    def step(_, codebook):
        return follow(codebook, z, quantize(z, codebook.codes)[0], 0.99)

    moved = jax.lax.fori_loop(0, steps, step, codebook_of(codes))
    np.testing.assert_allclose(moved.codes[1], [100, 100], rtol=1e-4)
    assert (np.abs(moved.codes[0] - 1) < 1).all()


def test_dead_codes_become_different_vectors_of_the_batch_and_the_others_stay():
    z = jax.random.normal(jax.random.key(0), (5, 4, 3))
    codebook = codebook_of(jnp.zeros((12, 3)), jnp.arange(12.0))  # of mean 5.5
    new = revive(jax.random.key(1), codebook, z, 0.5)
    dead = np.arange(12) < 0.5 * 5.5
    np.testing.assert_array_equal((new.codes != 0).any(1), dead)
    np.testing.assert_array_equal(new.counts, np.where(dead, 5.5, np.arange(12)))
    np.testing.assert_allclose(new.sums, new.counts[:, None] * new.codes, rtol=1e-6)
    vectors = {tuple(row) for row in np.asarray(z).reshape(-1, 3)}
    revived = {tuple(row) for row in np.asarray(new.codes)[dead]}
    assert len(revived) == 3
    assert revived <= vectors


def test_more_codes_than_vectors_can_be_revived():
    z = jnp.array([[1.0, 2], [3, 4]])
    codebook = codebook_of(jnp.zeros((5, 2)), jnp.array([9.0, 0, 0, 0, 0]))
    new = revive(jax.random.key(0), codebook, z, 0.1)
    assert {tuple(row) for row in np.asarray(new.codes[1:])} <= {(1.0, 2.0), (3.0, 4.0)}


def test_with_revival_a_codebook_finds_all_clusters_and_without_it_does_not():
    # Given 16 distant clusters and codes that begin together, so that one of them is the nearest to nearly everything,
    centers = 10 * jnp.stack(jnp.meshgrid(jnp.arange(4.0), jnp.arange(4.0)), -1).reshape(16, 2)

    def run(below):
        def step(codebook, key):
            cluster_key, noise_key, revive_key = jax.random.split(key, 3)
            z = centers[jax.random.randint(cluster_key, (128,), 0, 16)] + jax.random.normal(noise_key, (128, 2))
            codebook = follow(codebook, z, quantize(z, codebook.codes)[0], 0.9)
            return revive(revive_key, codebook, z, below), None

        first = codebook_of(0.01 * jax.random.normal(jax.random.key(0), (32, 2)) - 50.0, 0.0)
        codebook, _ = jax.lax.scan(step, first, jax.random.split(jax.random.key(1), 300))
        return quantize(centers, codebook.codes)

    def judged(below):
        """(codes that are the nearest to a center, the greatest distance of a center to its code)"""
        indices, nearest = jax.jit(run)(below)
        return len(np.unique(indices)), ((nearest - centers) ** 2).sum(-1).max()

    # then revival leaves each center a code of its own, within a cluster's deviation or two.
    found, farthest = judged(0.01)
    assert found == 16
    assert farthest < 4
    assert judged(0.0)[0] < 8


def test_replicas_agree_on_the_codebook_of_the_whole_batch():
    # Given a batch that is spread over eight devices, each with a key of its own,
    z = jax.random.normal(jax.random.key(0), (64, 3))
    codebook = codebook_of(jax.random.normal(jax.random.key(1), (10, 3)), 0.0)._replace(sums=jnp.zeros((10, 3)))
    indices, _ = quantize(z, codebook.codes)
    whole = follow(codebook, z, indices, 0.9)

    # when each replica follows its part,
    spread = lambda x: x.reshape(8, 8, *x.shape[1:])
    parts = jax.pmap(partial(follow, decay=0.9, axis_name="batch"), "batch", in_axes=(None, 0, 0))(
        codebook, spread(z), spread(indices)
    )

    # then all have the averages of the whole,
    for part, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part, np.broadcast_to(expected, part.shape), rtol=1e-5, atol=1e-6)

    # and the dead ones are replaced alike, by vectors of the batch.
    dead = codebook_of(jnp.zeros((10, 3)), jnp.array([1.0] * 4 + [0.0] * 6))
    keys = jax.random.split(jax.random.key(2), 8)
    revived = jax.pmap(lambda key, z: revive(key, dead, z, 0.1, axis_name="batch").codes, "batch")(keys, spread(z))
    np.testing.assert_array_equal(revived, np.broadcast_to(revived[0], revived.shape))
    vectors = {tuple(row) for row in np.asarray(z)}
    assert {tuple(row) for row in np.asarray(revived[0, 4:])} <= vectors
    np.testing.assert_array_equal(revived[0, :4], 0)


def test_a_population_of_decays_equals_each_alone(images, variables):
    def sums(decay, below):
        model = VQVAE(**SMALL, decay=decay, revive_below=below)
        return trained(model, variables, images)[1]["sums"]

    decays, belows = [0.5, 0.99], [0.0, 0.9]
    together = jax.jit(jax.vmap(sums))(jnp.array(decays), jnp.array(belows))
    for i in range(2):
        np.testing.assert_allclose(together[i], jax.jit(partial(sums, decays[i], belows[i]))(), rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_the_codebook_moves_only_in_training_and_where_it_may(model, variables, images):
    (outputs, _), moved = step_of(model, variables, images)
    for name, before in variables["codebook"]["quantizer"].items():
        assert np.abs(moved[name] - before).max() > 0, name
    _, kept = jax.jit(partial(model.apply, mutable=["codebook"]))(variables, images)
    jax.tree.map(np.testing.assert_array_equal, kept["codebook"], variables["codebook"])
    # What training answers is made with the codes from before, so prediction answers the same.
    np.testing.assert_allclose(apply(model, variables, images)[0], outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        jax.jit(partial(model.apply, train=True))(variables, images)[0], outputs, rtol=1e-5, atol=1e-5
    )


def test_the_first_step_replaces_every_code_that_the_first_batch_does_not_choose(model, images):
    variables = initial(model, images)
    (_, quantized), moved = step_of(model, variables, images)
    vectors = {tuple(row) for row in np.asarray(apply(model, variables, images, method="encode")).reshape(-1, 5)}
    unused = np.setdiff1d(np.arange(16), quantized.indices)
    assert len(unused)
    assert all(tuple(np.asarray(moved["codes"][i])) in vectors for i in unused)


def test_losses_are_the_mean_squared_distance_to_the_nearest_code(model, variables, images):
    for which in (model, VQVAE(**SMALL, decay=None)):
        if which.decay is None:
            variables = initial(which, images)
        z = apply(which, variables, images, method="encode")
        _, quantized = apply(which, variables, images)
        expected = ((z - quantized.latents) ** 2).mean((1, 2, 3))
        np.testing.assert_allclose(quantized.commitment, expected, rtol=1e-5)
        np.testing.assert_allclose(quantized.codebook, expected if which.decay is None else 0, rtol=1e-5)
        assert 1 <= quantized.perplexity <= 16


def test_commitment_teaches_the_encoder_and_the_codebooks_loss_the_codes(images):
    model = VQVAE(**SMALL, decay=None)
    params = initial(model, images)["params"]

    def gradients(term):
        loss = lambda params: getattr(apply(model, {"params": params}, images)[1], term).sum()
        return {
            name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
            for name, tree in jax.jit(jax.grad(loss))(params).items()
        }

    commitment, codebook = gradients("commitment"), gradients("codebook")
    assert commitment["encoder"] > 0 == commitment["quantizer"] == commitment["decoder"]
    assert codebook["quantizer"] > 0 == codebook["encoder"] == codebook["decoder"]


def test_the_codebooks_loss_pulls_a_code_to_the_mean_of_its_vectors(images):
    model = VQVAE(**SMALL, decay=None)
    params = initial(model, images)["params"]
    z = apply(model, {"params": params}, images, method="encode")
    loss = lambda params: apply(model, {"params": params}, images)[1].codebook.mean()
    slope = jax.jit(jax.grad(loss))(params)["quantizer"]["codes"]
    codes = params["quantizer"]["codes"]
    indices, _ = quantize(z, codes)
    for i in np.unique(indices):
        mine = z[indices == i]
        np.testing.assert_allclose(slope[i], 2 * (codes[i] - mine).sum(0) / z.size, rtol=1e-4, atol=1e-7)


def test_the_reconstructions_gradient_passes_the_quantizer(model, variables, images):
    loss = lambda params: (model.apply(variables | {"params": params}, images)[0] ** 2).sum()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"])):
        assert float(jnp.abs(leaf).max()) > 0, path


@pytest.mark.parametrize("decay", [0.99, None])
def test_codes_decode_to_what_the_network_answers(images, decay):
    model = VQVAE(**SMALL, decay=decay)
    variables = initial(model, images)
    outputs, quantized = apply(model, variables, images)
    indices = apply(model, variables, images, method="encode_indices")
    assert (indices.shape, indices.dtype) == ((4, 2, 3), jnp.int32)
    np.testing.assert_array_equal(indices, quantized.indices)
    decoded = apply(model, variables, indices, method="decode_indices")
    assert outputs.shape == images.shape
    np.testing.assert_allclose(decoded, outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.99, None])
def test_parameters_are_those_of_the_formula(decay):
    f, b, d, codes = 128, 32, 64, 512
    block = (9 * f + 1) * b + (b + 1) * f
    encoder = (16 * 3 + 1) * f + (16 * f + 1) * f + 2 * block + (f + 1) * d
    decoder = (9 * d + 1) * f + 2 * block + 2 * (9 * f + 1) * f + (9 * f + 1) * 3
    expected = encoder + decoder + (codes * d if decay is None else 0)
    assert models.count_parameters(VQVAE(channels=3, decay=decay), (32, 32, 3)) == expected


def test_in_bfloat16_vectors_and_outputs_are_float32_and_near_those_of_float32(model, variables, images):
    small = VQVAE(**SMALL, dtype=jnp.bfloat16)
    for method, x in (("encode", images), ("decode_indices", jnp.arange(12).reshape(2, 2, 3))):
        ours, expected = (apply(which, variables, x, method=method) for which in (small, model))
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, expected, atol=2**-4 * np.abs(expected).max())


def test_what_does_not_fit_is_refused(model, variables, images):
    with pytest.raises(ValueError, match=r"multiples of 4.*\(4, 6, 12, 3\)"):
        model.apply(variables, images[:, :6])
    with pytest.raises(ValueError, match=r"width, 3\].*\(4, 8, 12, 1\)"):
        model.apply(variables, images[..., :1])
    with pytest.raises(ValueError, match="must be of one width"):
        model.apply(variables, jnp.zeros((1, 2, 3, 1)), method="nearest_indices")
    with pytest.raises(ValueError, match="integers"):
        model.apply(variables, jnp.zeros((1, 2, 3)), method="decode_indices")
    with pytest.raises(ValueError, match="halvings is 0"):
        jax.eval_shape(VQVAE(halvings=0).init, jax.random.key(0), images)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 2\)"):
        quantize(jnp.zeros((2, 3)), jnp.zeros((4, 2)))
