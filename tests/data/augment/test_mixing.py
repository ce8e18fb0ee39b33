"""MixUp and CutMix: labels that say what the images are made of, and shares with the right distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.data import mixing
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

MIXERS = {"mixup": mixing.mixup, "cutmix": mixing.cutmix}
# Compiling is what takes time here: the optimizer of machine code is off; the program that it gets is the same.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
JITTED = {name: quick_jit(mixer, static_argnames="num_classes") for name, mixer in MIXERS.items()}


# Most tests use this batch: compiling a beta variable takes seconds, so they share one program for each mixer.
N = 16


def batch_of(n, shape=(8, 6, 3)):
    """Images filled with their place in the batch, which is their class too."""
    place = np.arange(n, dtype=np.int32)
    images = np.broadcast_to(place.reshape(n, 1, 1, 1), (n, *shape)).astype(np.uint8)
    return {"image": images, "label": place, "index": 7 * place + 3, "note": place}


def noise_batch(key):
    return batch_of(N) | {"image": np.asarray(jax.random.bits(key, (N, 8, 6, 3), jnp.uint8))}


def mixed(mixer, key, batch, alpha):
    """The mixed batch, with N classes, in NumPy."""
    return jax.device_get(JITTED[mixer](key, batch, alpha=alpha, num_classes=N))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_an_example_is_made_of_itself_and_one_partner_in_the_shares_that_its_label_says(mixer, alpha, key):
    out = mixed(mixer, key, batch_of(N), alpha)
    labels = out["label"]
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    partners = labels - np.diag(labels.diagonal())
    assert ((partners > 0).sum(1) <= 1).all()
    # Image i is i everywhere, so that its mean is Σ_k ỹ_k k.
    np.testing.assert_allclose(out["image"].astype(float).mean((1, 2, 3)), labels @ np.arange(N), atol=1e-4)
    assert (partners > 0.01).any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_all_partners_are_as_many_places_apart_and_all_distances_but_zero_occur(mixer):
    found = set()
    for key in jax.random.split(jax.random.key(1), 250):
        labels = mixed(mixer, key, batch_of(N), 3.0)["label"]
        partner = (labels - np.diag(labels.diagonal())).argmax(1)
        apart = set(((np.arange(N) - partner) % N)[labels.diagonal() < 1])
        assert len(apart) == 1
        found |= apart
    # Each of the 15 distances is missing with probability (14 / 15)^250, 3e-8.
    assert found == set(range(1, N))


def test_mixup_is_linear_in_images_and_labels_and_leaves_the_rest(key):
    batch = noise_batch(key)
    out = mixed("mixup", key, batch, 1.0)
    expected = np.einsum("ij,jhwc->ihwc", out["label"].astype(float), batch["image"].astype(float))
    assert out["image"].dtype == np.float32
    np.testing.assert_allclose(out["image"], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(out["note"], batch["note"])
    np.testing.assert_array_equal(out["index"], batch["index"])


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 8.0])
def test_the_shares_of_mixup_are_beta_distributed(alpha, key):
    keys = jax.random.split(key, 1008 // N)
    shares = np.concatenate([mixed("mixup", k, batch_of(N), alpha)["label"].diagonal() for k in keys])
    for x in (0.01, 0.1, 0.4, 0.5, 0.7, 0.95):
        expected = stats.beta(alpha, alpha).cdf(x)
        measured = (shares <= x).mean()
        assert abs(measured - expected) <= 5 * np.sqrt(expected * (1 - expected) / 1000) + 1e-6  # 5 standard errors


def test_cutmix_pastes_a_rectangle_of_the_partner_in_place(key):
    batch, sizes = noise_batch(key), set()
    before = batch["image"]
    for draw_key in jax.random.split(key, 4):
        out = mixed("cutmix", draw_key, batch, 1.0)
        labels, after = out["label"], out["image"]
        assert after.dtype == np.uint8
        for i in range(N):
            partner = (labels[i] - labels[i, i] * np.eye(N)[i]).argmax()
            pasted = (after[i] != before[i]).any(-1)
            np.testing.assert_array_equal(after[i][pasted], before[partner][pasted])
            rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
            assert pasted.sum() == len(rows) * len(columns)  # 1 in 256³ of equal pixels
            assert labels[i, i] == pytest.approx(1 - pasted.mean(), abs=1e-6)
            sizes.add((len(rows), len(columns)))
    assert len(sizes) > 10


def test_the_rectangles_of_cutmix_cover_one_minus_lambda_where_nothing_is_cut_off():
    # For α → ∞, λ is 1/2, and the sides are √½ of 100 and of 60.
    batch = batch_of(100, (100, 60, 1))
    out = JITTED["cutmix"](jax.random.key(2), batch, alpha=1e5, num_classes=100)
    pasted = np.asarray(out["image"])[..., 0] != batch["image"][..., 0]
    assert pasted.any(2).sum(1).max() in (70, 71)
    assert pasted.any(1).sum(1).max() in (42, 43)


@pytest.mark.parametrize("mixer", MIXERS)
def test_alpha_may_be_traced_and_at_zero_only_the_form_changes(mixer, key):
    batch = batch_of(N)
    mix = quick_jit(jax.vmap(lambda alpha: MIXERS[mixer](key, batch, alpha=alpha, num_classes=N)))
    out = mix(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(out["image"][0], batch["image"])
    np.testing.assert_array_equal(out["label"][0], np.eye(N))
    np.testing.assert_allclose(out["label"][1], mixed(mixer, key, batch, 1.0)["label"], atol=1e-5)
    assert (out["label"][1] != np.eye(N)).any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_small_alphas_give_finite_shares(mixer, key):
    for draw_key in jax.random.split(key, 64 // N):
        assert np.isfinite(mixed(mixer, draw_key, batch_of(N), 1e-4)["label"]).all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_batch_that_is_laid_out_over_devices_is_mixed_as_a_whole(mixer, key):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = mixed(mixer, key, jax.device_put(batch_of(N), NamedSharding(mesh, PartitionSpec("data"))), 1.0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), sharded, mixed(mixer, key, batch_of(N), 1.0))


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixed_examples_can_be_mixed_again_and_one_that_is_alone_stays(mixer, key):
    once = mixed("mixup", key, batch_of(N), 1.0)
    twice = mixed(mixer, jax.random.key(9), once, 1.0)
    np.testing.assert_allclose(twice["label"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(twice["image"].mean((1, 2, 3)), twice["label"] @ np.arange(N), atol=1e-4)
    alone = mixed(mixer, key, batch_of(1), 1.0)
    np.testing.assert_allclose(alone["label"], np.eye(N)[:1], atol=1e-6)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": jnp.zeros((4, 8, 6))}, "wrong rank: 3"),
        ({"index": jnp.arange(3)}, "one index per image"),
        ({"label": jnp.zeros((4, 7))}, r"probabilities \[4, 5\], got float32 \[4, 7\]"),
        ({"label": jnp.zeros(4)}, r"integer labels \[4\]"),
    ],
)
def test_batches_that_do_not_fit_are_refused(mixer, change, message, key):
    with pytest.raises(ValueError, match=message):
        MIXERS[mixer](key, batch_of(4) | change, alpha=1.0, num_classes=5)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_negative_alpha_is_refused(mixer, key):
    with pytest.raises(ValueError, match=r"alpha between 0 and .*, got -1"):
        MIXERS[mixer](key, batch_of(4), alpha=-1.0, num_classes=4)
