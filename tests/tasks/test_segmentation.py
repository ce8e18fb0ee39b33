"""Segmentation as a task: what counts how much, and what an answer may look like."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses, tasks
from etude.models import dense

CLASSES, SHAPE = 3, (4, 6)


class Told(nn.Module):
    """Answers its image, times a parameter: [batch, height, width, 3] logits. `aux` sows the same logits, halved."""

    aux: bool = False

    @nn.compact
    def __call__(self, x, *, train=False):
        logits = self.param("scale", nn.initializers.ones, ()) * x
        if self.aux:
            self.sow("intermediates", "aux", logits / 2)
        return logits


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    semantic = rng.integers(-1, CLASSES, (5, *SHAPE)).astype(np.int32)
    semantic[3] = -1  # an image without a class
    return {"image": rng.normal(size=(5, *SHAPE, CLASSES)).astype(np.float32), "semantic": semantic}


def task_of(model=None, **options):
    return tasks.segmentation(Told() if model is None else model, (*SHAPE, CLASSES), CLASSES, **options)


def measure(task, batch, *, train=False):
    loss, aux = task.loss({"scale": jnp.float32(1)}, {}, batch, jax.random.key(0), train, {})
    return {name: float(mean.value) for name, mean in {"loss": loss, **aux.metrics}.items()}


def reference(batch, weights):
    """(cross-entropy, accuracy) pixel by pixel: images with a class count alike; of accuracy all pixels do."""
    values, right, count, total = [], 0.0, 0.0, 0.0
    for image, classes, weight in zip(batch["image"].astype(np.float64), batch["semantic"], weights, strict=True):
        known = classes >= 0
        if not known.any():
            continue
        logits = image[known]
        nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), classes[known]]
        values.append(weight * nll.mean())
        total += weight
        right += weight * (logits.argmax(-1) == classes[known]).sum()
        count += weight * known.sum()
    return sum(values) / total, right / count


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1], [0, 2, 0.5, 1, 1]])
def test_every_image_counts_alike_and_pixels_without_a_class_for_nothing(batch, train, weights):
    wanted = reference(batch, weights)
    measured = measure(task_of(), batch | {"weight": np.array(weights, np.float32)}, train=train)
    assert (measured["loss"], measured["pixel_accuracy"]) == pytest.approx(wanted, rel=1e-5)


def test_what_pixels_without_a_class_look_like_changes_no_gradient(batch):
    def gradient(image):
        def loss(params):
            mean, _ = task_of().loss(params, {}, batch | {"image": image}, jax.random.key(0), True, {})
            return mean.value

        return jax.grad(loss)({"scale": jnp.float32(1)})["scale"]

    other = np.where(batch["semantic"][..., None] < 0, 1e6, batch["image"])
    assert float(gradient(other)) == pytest.approx(float(gradient(batch["image"])), rel=1e-6)


def test_miou_is_that_of_the_whole_split_and_not_a_mean_over_batches(batch):
    evaluation = tasks.evaluation(task_of())
    variables = {"params": {"scale": jnp.float32(1)}}
    halves = [{name: array[part] for name, array in batch.items()} for part in (slice(0, 2), slice(2, 5))]
    sums = jax.tree.map(jnp.add, *(evaluation.statistics(variables, half) for half in halves))
    guess, truth = batch["image"].argmax(-1), batch["semantic"]
    ious = [
        ((guess == c) & (truth == c)).sum() / (((guess == c) | (truth == c)) & (truth >= 0)).sum()
        for c in range(CLASSES)
    ]
    reported = evaluation.report(jax.tree.map(lambda x: np.asarray(x, np.float64), sums))
    assert reported["miou"] == pytest.approx(np.mean(ious), rel=1e-6)
    assert reported["loss"] == pytest.approx(reference(batch, np.ones(5))[0], rel=1e-5)


def test_losses_of_regions_are_means_over_the_classes_of_an_image(batch):
    batch = {name: array[[0, 1, 2, 4]] for name, array in batch.items()}
    batch["semantic"][0] = np.minimum(batch["semantic"][0], 1)  # class 2 is not there
    dice = np.asarray(losses.dice_loss(jnp.asarray(batch["image"]), jnp.asarray(batch["semantic"])))
    added = np.mean([dice[i][np.unique(classes[classes >= 0])].mean() for i, classes in enumerate(batch["semantic"])])
    plain = measure(task_of(), batch, train=True)["loss"]
    regions = task_of(region_losses=[(0.3, losses.dice_loss)])
    assert measure(regions, batch, train=True)["loss"] == pytest.approx(plain + 0.3 * added, rel=1e-5)
    assert measure(regions, batch)["loss"] == pytest.approx(plain, rel=1e-5)  # at prediction, the cross-entropy


def test_pixels_are_weighed_in_training_alone(batch):
    doubled = task_of(pixel_weights=lambda batch: jnp.full(batch["semantic"].shape, 2.0))
    plain = measure(task_of(), batch)["loss"]
    assert measure(doubled, batch, train=True)["loss"] == pytest.approx(2 * plain, rel=1e-5)
    assert measure(doubled, batch)["loss"] == pytest.approx(plain, rel=1e-5)


def test_the_focal_loss_is_for_training_and_with_gamma_0_the_cross_entropy(batch):
    per_pixel = losses.softmax_focal_loss(jnp.asarray(batch["image"]), jnp.asarray(batch["semantic"]), gamma=2.0)
    known = (batch["semantic"] >= 0).sum((1, 2))
    wanted = np.mean([np.asarray(per_pixel[i]).sum() / known[i] for i in range(5) if known[i]])
    assert measure(task_of(focal=2.0), batch, train=True)["loss"] == pytest.approx(wanted, rel=1e-5)
    assert measure(task_of(focal=2.0), batch)["loss"] == pytest.approx(reference(batch, np.ones(5))[0], rel=1e-5)
    assert wanted < reference(batch, np.ones(5))[0]


def test_an_auxiliary_answer_adds_half_of_its_loss_in_training(batch):
    plain = reference(batch, np.ones(5))[0]
    halved = reference(batch | {"image": batch["image"] / 2}, np.ones(5))[0]
    task = task_of(Told(aux=True))
    assert measure(task, batch, train=True)["loss"] == pytest.approx(plain + 0.5 * halved, rel=1e-5)
    assert measure(task, batch)["loss"] == pytest.approx(plain, rel=1e-5)
    _, aux = task.loss({"scale": jnp.float32(1)}, {}, batch, jax.random.key(0), True, {})
    assert aux.model_state == {}  # what is sown is no state


@pytest.mark.parametrize("shape", [(7, 9), (4, 4), (12, 5)])
def test_a_network_that_pads_nothing_answers_for_the_whole_image_and_sees_it_mirrored(shape):
    model = dense.UNet(num_classes=2, width=2, depth=1, padding="VALID")
    image = np.random.default_rng(0).normal(size=(1, *shape, 1)).astype(np.float32)
    padded = dense.mirror_padded(jnp.asarray(image), depth=1)
    variables = model.init(jax.random.key(0), padded)
    answer = dense.center_crop(model.apply(variables, padded), shape)
    assert answer.shape == (1, *shape, 2)
    # The margin of mirrored pixels around the image, wherever the network's answer lies in what it was given.
    top, left = (np.array(padded.shape[1:3]) - np.array(model.apply(variables, padded).shape[1:3])) // 2
    more = (np.array(model.apply(variables, padded).shape[1:3]) - shape) // 2
    rows, columns = top + more[0], left + more[1]
    inside = padded[0, rows : rows + shape[0], columns : columns + shape[1]]
    np.testing.assert_array_equal(inside, image[0])
    around = [(rows, padded.shape[1] - rows - shape[0]), (columns, padded.shape[2] - columns - shape[1]), (0, 0)]
    np.testing.assert_array_equal(padded[0], np.pad(image[0], around, mode="reflect"))


def test_a_batch_may_be_of_parts_of_images():
    model = dense.UNet(3, width=4, depth=1, padding="VALID")
    task = tasks.segmentation(
        model, (16, 16, 1), 3, preprocess=lambda images: dense.mirror_padded(images.astype(jnp.float32), 1)
    )
    variables = task.init(jax.random.key(0))
    part = {
        "image": jnp.ones((2, 8, 12, 1)),
        "semantic": jnp.zeros((2, 8, 12), jnp.int32),
        "index": jnp.arange(2),
    }
    for train in (True, False):
        loss, _ = task.loss(variables["params"], {}, part, jax.random.key(0), train, {})
        assert np.isfinite(loss.value)
