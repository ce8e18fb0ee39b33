"""Losses of dense classes against direct transcriptions of their definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import losses
from scipy.special import softmax

LOSSES = {
    "cross-entropy": losses.dense_cross_entropy,
    "dice": losses.dice_loss,
    "lovász": losses.lovasz_softmax_loss,
}
# One program of each, for 2 images of 3 × 4 pixels and 3 classes.
COMPILED = {name: jax.jit(loss) for name, loss in LOSSES.items()}
GRADIENTS = {name: jax.jit(jax.grad(lambda x, y, loss=loss: (loss(x, y) ** 2).sum())) for name, loss in LOSSES.items()}


def example(seed, void=0.0):
    """(logits [2, 3, 4, 3], labels [2, 3, 4]) with so many pixels ignored."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((2, 3, 4)) < void, -1, rng.integers(0, 3, (2, 3, 4)))
    return rng.normal(0, 2, (2, 3, 4, 3)).astype(np.float32), labels


def test_cross_entropy_of_pixels_equals_its_definition():
    logits, labels = example(0, void=0.3)
    p = np.take_along_axis(softmax(logits.astype(np.float64), -1), np.maximum(labels, 0)[..., None], -1)[..., 0]
    measured = COMPILED["cross-entropy"](logits, labels)
    np.testing.assert_allclose(measured, np.where(labels >= 0, -np.log(p), 0), rtol=1e-5, atol=1e-6)


def test_dice_equals_its_definition_and_optax():
    logits, labels = example(1)
    p, g = softmax(logits.astype(np.float64), -1), np.eye(3)[labels]
    expected = 1 - (2 * (p * g).sum((1, 2)) + 1) / ((p + g).sum((1, 2)) + 1)
    measured = COMPILED["dice"](logits, labels)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    if hasattr(optax.losses, "dice_loss"):  # the oldest optax that we allow has none
        judged = optax.losses.dice_loss(logits, jnp.asarray(g, jnp.float32), smooth=0.5, reduction="none")
        np.testing.assert_allclose(measured, judged, rtol=1e-5)


def lovasz_extension(loss_of_set, errors):
    """∫ of the loss of the set {errors > t} over t from 0 to 1: its definition for errors in [0, 1]."""
    steps = np.unique([0.0, *errors, 1.0])
    return sum((high - low) * loss_of_set(errors > (low + high) / 2) for low, high in itertools.pairwise(steps))


def jaccard_loss(truth):
    """The set of wrong pixels -> 1 − IoU of a class, in which those pixels are mistaken and the others right."""

    def loss(wrong):
        predicted = truth ^ wrong
        union = (truth | predicted).sum()
        return 1 - (truth & predicted).sum() / union if union else 0.0

    return loss


@pytest.mark.parametrize("void", [0.0, 0.3, 1.0])
def test_lovasz_softmax_is_the_lovasz_extension_of_the_jaccard_loss(void):
    for seed in range(5):
        logits, labels = example(seed, void)
        measured = COMPILED["lovász"](logits, labels)
        probabilities = softmax(logits.astype(np.float64), -1)
        for image, c in itertools.product(range(2), range(3)):
            known = labels[image] >= 0
            truth = labels[image][known] == c
            errors = np.abs(truth - probabilities[image][known][:, c])
            expected = lovasz_extension(jaccard_loss(truth), errors)
            np.testing.assert_allclose(measured[image, c], expected, rtol=1e-5, atol=1e-6)


def test_lovasz_softmax_is_one_minus_iou_on_hard_predictions():
    for seed in range(5):
        logits, labels = example(seed, void=0.2)
        predicted = logits.argmax(-1)
        measured = COMPILED["lovász"](1e4 * np.eye(3, dtype=np.float32)[predicted], labels)
        for image, c in itertools.product(range(2), range(3)):
            known = labels[image] >= 0
            a, b = predicted[image][known] == c, labels[image][known] == c
            iou = (a & b).sum() / (a | b).sum() if (a | b).any() else 1
            np.testing.assert_allclose(measured[image, c], 1 - iou, atol=1e-6)


def test_lovasz_weights_are_exact_in_float32_on_many_pixels():
    # An error of 0.5 at every pixel: the loss is half of that where all are wrong, 1 − 0 / union.
    labels = (np.arange(2**18) % 7 == 0).astype(int)[None]
    value, gradient = jax.jit(jax.value_and_grad(lambda x: losses.lovasz_softmax_loss(x, labels)[0, 1]))(
        jnp.zeros((1, 2**18, 2))
    )
    np.testing.assert_allclose(value, 0.5, rtol=1e-4)
    signs = np.where(labels, -1, 1)
    assert (np.sign(gradient[..., 1]) == signs).all()  # no pixel's weight is lost in rounding


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_neither_loss_nor_gradient(name):
    logits, labels = example(3, void=0.4)
    changed = np.where((labels < 0)[..., None], np.nan, logits)
    np.testing.assert_array_equal(COMPILED[name](changed, labels), COMPILED[name](logits, labels))
    gradient = np.asarray(GRADIENTS[name](changed, labels))
    np.testing.assert_array_equal(gradient, GRADIENTS[name](logits, labels))
    assert not gradient[labels < 0].any()
    assert gradient[labels >= 0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_images_that_are_all_void_have_loss_0_and_extreme_logits_are_finite(name):
    logits, labels = example(4)
    assert not np.asarray(COMPILED[name](logits, np.full_like(labels, -1))).any()
    assert np.isfinite(COMPILED[name](1e4 * logits, labels)).all()
    assert np.isfinite(GRADIENTS[name](1e4 * logits, labels)).all()


@pytest.mark.parametrize("name", ["dice", "lovász"])
def test_the_losses_of_regions_do_not_depend_on_the_other_images_or_on_the_order_of_pixels(name):
    logits, labels = example(5, void=0.2)
    expected = np.asarray(COMPILED[name](logits, labels))
    np.testing.assert_allclose(COMPILED[name](logits[::-1], labels[::-1]), expected[::-1], rtol=1e-6)
    np.testing.assert_allclose(COMPILED[name](logits[:, ::-1], labels[:, ::-1]), expected, rtol=1e-5)


def test_classes_present_are_those_of_some_pixel():
    labels = jnp.array([[[0, 2], [-1, 2]], [[-1, -1], [-1, -1]]])
    np.testing.assert_array_equal(losses.classes_present(labels, 3), [[True, False, True], [False] * 3])


@pytest.mark.parametrize("loss", LOSSES.values())
@pytest.mark.parametrize("labels", [jnp.zeros((2, 3), int), jnp.zeros((2, 3, 4))])
def test_wrong_labels_are_refused(loss, labels):
    with pytest.raises(ValueError, match=r"\(2, 3"):
        loss(jnp.zeros((2, 3, 4, 3)), labels)
