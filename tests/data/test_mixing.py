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
JITTED = {name: jax.jit(mixer, static_argnames="num_classes") for name, mixer in MIXERS.items()}


def batch_of(n, shape=(8, 6, 1)):
    """Images filled with their place in the batch, which is their class too."""
    place = jnp.arange(n)
    images = jnp.broadcast_to(place.reshape(n, 1, 1, 1), (n, *shape)).astype(jnp.uint8)
    return {"image": images, "label": place, "index": 7 * place + 3, "note": place}


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_an_example_is_made_of_itself_and_one_partner_in_the_shares_that_its_label_says(mixer, alpha, key):
    out = JITTED[mixer](key, batch_of(16), alpha=alpha, num_classes=16)
    labels = np.asarray(out["label"])
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    partners = labels - np.diag(labels.diagonal())
    assert ((partners > 0).sum(1) <= 1).all()
    # Image i is i everywhere, so that its mean is Σ_k ỹ_k k.
    np.testing.assert_allclose(np.asarray(out["image"], float).mean((1, 2, 3)), labels @ np.arange(16), atol=1e-4)
    assert (partners > 0.01).any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_all_partners_are_as_many_places_apart_and_all_distances_but_zero_occur(mixer):
    def distances(key):
        labels = MIXERS[mixer](key, batch_of(5), alpha=3.0, num_classes=5)["label"]
        partner = (labels - jnp.diag(jnp.diagonal(labels))).argmax(1)
        return jnp.where(labels.diagonal() < 1, (jnp.arange(5) - partner) % 5, -1)

    apart = np.asarray(jax.jit(jax.vmap(distances))(jax.random.split(jax.random.key(1), 100)))
    for row in apart:
        assert len(set(row) - {-1}) <= 1
    assert set(apart.ravel()) - {-1} == {1, 2, 3, 4}


def test_mixup_is_linear_in_images_and_labels_and_leaves_the_rest(key):
    batch = batch_of(8) | {"image": jax.random.bits(key, (8, 8, 6, 3), jnp.uint8)}
    out = JITTED["mixup"](key, batch, alpha=1.0, num_classes=8)
    mixed = np.einsum("ij,jhwc->ihwc", np.asarray(out["label"], float), np.asarray(batch["image"], float))
    assert out["image"].dtype == jnp.float32
    np.testing.assert_allclose(out["image"], mixed, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(out["note"], batch["note"])
    np.testing.assert_array_equal(out["index"], batch["index"])


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 8.0])
def test_the_shares_of_mixup_are_beta_distributed(alpha, key):
    shares = np.asarray(JITTED["mixup"](key, batch_of(1000, (1, 1, 1)), alpha=alpha, num_classes=1000)["label"])
    for x in (0.01, 0.1, 0.4, 0.5, 0.7, 0.95):
        expected = stats.beta(alpha, alpha).cdf(x)
        measured = (shares.diagonal() <= x).mean()
        assert abs(measured - expected) <= 5 * np.sqrt(expected * (1 - expected) / 1000) + 1e-6  # 5 standard errors


def test_cutmix_pastes_a_rectangle_of_the_partner_in_place(key):
    batch = batch_of(64) | {"image": jax.random.bits(key, (64, 8, 6, 3), jnp.uint8)}
    out = JITTED["cutmix"](key, batch, alpha=1.0, num_classes=64)
    labels, before, after = (np.asarray(x) for x in (out["label"], batch["image"], out["image"]))
    assert after.dtype == np.uint8
    sizes = set()
    for i in range(64):
        partner = (labels[i] - labels[i, i] * np.eye(64)[i]).argmax()
        pasted = (after[i] != before[i]).any(-1)
        np.testing.assert_array_equal(after[i][pasted], before[partner][pasted])
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert pasted.sum() == len(rows) * len(columns)  # 1 in 256³ of equal pixels
        assert labels[i, i] == pytest.approx(1 - pasted.mean(), abs=1e-6)
        sizes.add((len(rows), len(columns)))
    assert len(sizes) > 10


def test_the_rectangles_of_cutmix_cover_one_minus_lambda_where_nothing_is_cut_off():
    # For α → ∞, λ is 1/2, and the sides are √½ of 100 and of 60.
    out = JITTED["cutmix"](jax.random.key(2), batch_of(100, (100, 60, 1)), alpha=1e5, num_classes=100)
    pasted = np.asarray(out["image"])[..., 0] != np.asarray(batch_of(100, (100, 60, 1))["image"])[..., 0]
    assert pasted.any(2).sum(1).max() in (70, 71)
    assert pasted.any(1).sum(1).max() in (42, 43)


@pytest.mark.parametrize("mixer", MIXERS)
def test_alpha_may_be_traced_and_at_zero_only_the_form_changes(mixer, key):
    batch = batch_of(6)
    mix = jax.jit(jax.vmap(lambda alpha: MIXERS[mixer](key, batch, alpha=alpha, num_classes=6)))
    out = mix(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(out["image"][0], batch["image"])
    np.testing.assert_array_equal(out["label"][0], np.eye(6))
    np.testing.assert_allclose(out["label"][1], JITTED[mixer](key, batch, alpha=1.0, num_classes=6)["label"], atol=1e-5)
    assert (out["label"][1] != np.eye(6)).any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_small_alphas_give_finite_shares(mixer, key):
    out = JITTED[mixer](key, batch_of(64), alpha=1e-4, num_classes=64)
    assert np.isfinite(out["label"]).all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_batch_that_is_laid_out_over_devices_is_mixed_as_a_whole(mixer, key):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    mix = partial(JITTED[mixer], alpha=1.0, num_classes=16)
    sharded = mix(key, jax.device_put(batch_of(16), NamedSharding(mesh, PartitionSpec("data"))))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), sharded, mix(key, batch_of(16)))


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixed_examples_can_be_mixed_again_and_one_that_is_alone_stays(mixer, key):
    once = JITTED["mixup"](key, batch_of(8), alpha=1.0, num_classes=8)
    twice = JITTED[mixer](jax.random.key(9), once, alpha=1.0, num_classes=8)
    np.testing.assert_allclose(twice["label"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(twice["image"].mean((1, 2, 3)), twice["label"] @ jnp.arange(8), atol=1e-4)
    alone = JITTED[mixer](key, batch_of(1), alpha=1.0, num_classes=8)
    np.testing.assert_allclose(alone["label"], np.eye(8)[:1], atol=1e-6)


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
