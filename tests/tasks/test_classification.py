"""Classification as a task: its loss and accuracy, weights, and what differs between training and prediction."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import tasks

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1], [0.25, 0.5, 0.25]])


class Told(nn.Module):
    """Answers the logarithms of the image's pixels; with dropout, half of the examples give no answer."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        logits = scale * jnp.log(x[:, 0, :, 0])
        return nn.Dropout(self.dropout, broadcast_dims=(1,))(logits, deterministic=not train)


@pytest.fixture
def batch():
    return {"image": PROBABILITIES[:, None, :, None].astype(np.float32), "label": np.array([0, 1, 1, 2], np.int32)}


def measure(task, batch, *, train=False, hyper=None, key=0):
    params = {"scale": jnp.float32(1)}
    loss, aux = task.loss(params, {}, batch, jax.random.key(key), train, hyper or {})
    return {"loss": loss, **aux.metrics}


def task_of(**options):
    return tasks.classification(Told(), (1, 3, 1), **options)


@pytest.mark.parametrize("train", [True, False])
def test_loss_and_accuracy_are_weighted_means(batch, train):
    nll = -np.log(PROBABILITIES[np.arange(4), batch["label"]])
    right = [1, 0, 1, 0]
    for weight in ([1, 1, 1, 1], [0, 2, 1, 0.5]):
        measured = measure(task_of(), batch | {"weight": np.array(weight, np.float32)}, train=train)
        assert measured.keys() == {"loss", "accuracy"}
        assert float(measured["loss"].value) == pytest.approx(np.average(nll, weights=weight), rel=1e-5)
        assert float(measured["accuracy"].value) == pytest.approx(np.average(right, weights=weight), rel=1e-6)
        assert {float(mean.weight) for mean in measured.values()} == {sum(weight)}
    assert float(measure(task_of(), batch)["loss"].value) == pytest.approx(nll.mean(), rel=1e-5)


def test_labels_are_smoothed_in_training_only(batch):
    task = task_of(label_smoothing=0.3)
    smooth = 0.7 * np.eye(3)[batch["label"]] + 0.1
    expected = -(smooth * np.log(PROBABILITIES)).sum(1).mean()
    assert float(measure(task, batch, train=True)["loss"].value) == pytest.approx(expected, rel=1e-5)
    assert float(measure(task, batch)["loss"].value) == pytest.approx(
        float(measure(task_of(), batch)["loss"].value), rel=1e-6
    )


def test_a_traced_field_comes_from_the_hyperparameters_in_training_only(batch):
    task = task_of(traced_fields=("dropout",))
    plain = float(measure(task_of(), batch)["loss"].value)
    assert float(measure(task, batch)["loss"].value) == plain
    off = measure(task, batch, train=True, hyper={"dropout": jnp.float32(0)})["loss"].value
    assert float(off) == pytest.approx(plain, rel=1e-6)
    half = [
        float(measure(task, batch, train=True, hyper={"dropout": jnp.float32(0.5)}, key=key)["loss"].value)
        for key in range(4)
    ]
    assert len({*half, plain}) > 2


def test_views_average_the_probabilities_of_an_image(batch):
    # Given two views, the image and another with its pixels in reverse order,
    task = task_of(views=lambda batch: jnp.stack([batch["image"], batch["image"][:, :, ::-1]]))
    average = (PROBABILITIES + PROBABILITIES[:, ::-1]) / 2
    expected = -np.log(average[np.arange(4), batch["label"]]).mean()
    assert float(measure(task, batch)["loss"].value) == pytest.approx(expected, rel=1e-5)
    # then training sees the image alone.
    assert float(measure(task, batch, train=True)["loss"].value) == pytest.approx(
        float(measure(task_of(), batch, train=True)["loss"].value), rel=1e-6
    )


def test_images_are_preprocessed_in_training_and_at_prediction_alike(batch):
    task = task_of(preprocess=lambda images: images / 100)
    percent = batch | {"image": 100 * batch["image"]}
    for train in (True, False):
        measured = measure(task, percent, train=train)["loss"].value
        assert float(measured) == pytest.approx(float(measure(task_of(), batch)["loss"].value), rel=1e-5)


def test_class_weights_are_a_weighted_mean_in_training_alone(batch):
    weights = np.array([1.0, 2.0, 5.0], np.float32)
    of_each = -np.log(PROBABILITIES[np.arange(4), batch["label"]])
    counts = weights[batch["label"]]
    found = measure(task_of(class_weights=weights), batch, train=True)
    assert found["loss"].value == pytest.approx((counts * of_each).sum() / counts.sum(), rel=1e-6)
    plain = measure(task_of(), batch)
    assert measure(task_of(class_weights=weights), batch)["loss"].value == plain["loss"].value
    assert found["accuracy"].value == plain["accuracy"].value


def test_class_weights_of_mixed_labels_are_the_mean_of_their_classes(batch):
    weights, mixed = np.array([1.0, 2.0, 5.0], np.float32), np.eye(3, dtype=np.float32)[batch["label"]]
    mixed = 0.5 * mixed + 0.5 * mixed[::-1]
    of_each = -(mixed * np.log(PROBABILITIES)).sum(-1)
    counts = mixed @ weights
    found = measure(task_of(class_weights=weights), batch | {"label": mixed}, train=True)
    assert found["loss"].value == pytest.approx((counts * of_each).sum() / counts.sum(), rel=1e-6)
