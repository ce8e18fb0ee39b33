"""Detection as a task: what the loss counts, what changes nothing, and what is found in answers that are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import losses, tasks
from etude.models import dense

SHAPE, CLASSES = (32, 48, 3), 3
LEVELS = dense.grid_levels(32, 48, (4, 8))
CELLS = sum(level.height * level.width for level in LEVELS)


class Told(nn.Module):
    """Answers what it was made with, whatever the image, times a parameter."""

    outputs: dense.GridOutputs
    num_classes: int = CLASSES
    num_prototypes: int = 0
    num_semantic: int = 0
    strides: tuple[int, ...] = (4, 8)

    @nn.compact
    def __call__(self, x, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        return jax.tree.map(lambda array: scale * array[: len(x)], self.outputs)


def outputs_of(seed=0, batch=3, prototypes=0, semantic=0):
    rng = np.random.default_rng(seed)
    centers = np.asarray(dense.cell_centers(LEVELS))
    sides = rng.uniform(4, 20, (batch, CELLS, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], -1)
    return dense.GridOutputs(
        class_logits=jnp.asarray(rng.normal(size=(batch, CELLS, CLASSES)), jnp.float32),
        boxes=jnp.asarray(boxes, jnp.float32),
        quality_logits=jnp.asarray(rng.normal(size=(batch, CELLS)), jnp.float32),
        coefficients=jnp.asarray(rng.normal(size=(batch, CELLS, prototypes)), jnp.float32) if prototypes else None,
        prototypes=jnp.asarray(rng.normal(size=(batch, 16, 24, prototypes)), jnp.float32) if prototypes else None,
        semantic_logits=jnp.asarray(rng.normal(size=(batch, 32, 48, semantic)), jnp.float32) if semantic else None,
    )


@pytest.fixture
def batch():
    """Two objects, one, and none; masks are the boxes' whole pixels."""
    boxes = np.array([[[2, 3, 14, 13], [20, 4, 44, 30]], [[5, 5, 12, 25], [0, 0, 0, 0]], np.zeros((2, 4))], np.float32)
    labels = np.array([[1, 0], [2, -1], [-1, -1]], np.int32)
    y, x = np.arange(32)[:, None], np.arange(48)
    inside = [[(b[0] <= x) & (x < b[2]) & (b[1] <= y) & (y < b[3]) for b in each] for each in boxes]
    return {
        "image": np.zeros((3, *SHAPE), np.float32),
        "boxes": boxes,
        "labels": labels,
        "masks": np.array(inside, np.uint8),
        "semantic": np.random.default_rng(1).integers(-1, 5, (3, 32, 48)).astype(np.int32),
    }


def measure(outputs, batch, **options):
    fields = {"num_prototypes": 0 if outputs.prototypes is None else outputs.prototypes.shape[-1]}
    task = tasks.detection(Told(outputs, **fields), SHAPE, **options)
    loss, aux = task.loss({"scale": jnp.float32(1)}, {}, batch, jax.random.key(0), True, {})
    return {name: float(mean.value) for name, mean in {"loss": loss, **aux.metrics}.items()}


def reference(outputs, batch, radius, images):
    """The losses, cell by cell, with the cells of `assign_cells`."""
    sums, count = {"class_loss": 0.0, "box_loss": 0.0, "quality_loss": 0.0}, 0.0
    for i in range(len(batch["boxes"])):
        boxes, labels = batch["boxes"][i], batch["labels"][i]
        objects = tasks.assign_cells(
            jnp.asarray(boxes), jnp.asarray(labels >= 0), LEVELS, limits=(2**2.5 * 4,), radius=radius
        ).objects
        count += images[i] * ((labels >= 0).sum() + 1)
        for cell, n in enumerate(np.asarray(objects)):
            wanted = np.eye(CLASSES)[labels[n]] if n >= 0 else np.zeros(CLASSES)
            logits = outputs.class_logits[i, cell]
            sums["class_loss"] += images[i] * float(losses.sigmoid_focal_loss(logits, jnp.asarray(wanted)).sum())
            if n >= 0:
                box, iou = outputs.boxes[i, cell], losses.box_iou(outputs.boxes[i, cell], boxes[n])
                sums["box_loss"] += images[i] * float(losses.giou_loss(box, boxes[n]))
                quality = optax.sigmoid_binary_cross_entropy(outputs.quality_logits[i, cell], iou)
                sums["quality_loss"] += images[i] * float(quality)
    return {name: total / count for name, total in sums.items()}


@pytest.mark.parametrize("radius", [0.0, 1.0])
@pytest.mark.parametrize("images", [[1, 1, 1], [2, 0, 1]])
def test_losses_are_sums_over_cells_divided_by_objects_and_images(batch, radius, images):
    outputs = outputs_of()
    measured = measure(outputs, batch | {"weight": np.array(images, np.float32)}, radius=radius)
    wanted = reference(outputs, batch, radius, images)
    assert {name: measured[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    total = wanted["class_loss"] + 2 * wanted["box_loss"] + wanted["quality_loss"]
    assert measured["loss"] == pytest.approx(total, rel=1e-4)


def test_padded_objects_change_nothing(batch):
    outputs = outputs_of(prototypes=4)
    plain = measure(outputs, batch, radius=1.0)
    padded = dict(batch)
    padded["boxes"] = np.pad(batch["boxes"], ((0, 0), (0, 3), (0, 0)), constant_values=7)
    padded["labels"] = np.pad(batch["labels"], ((0, 0), (0, 3)), constant_values=-1)
    padded["masks"] = np.pad(batch["masks"], ((0, 0), (0, 3), (0, 0), (0, 0)), constant_values=1)
    assert measure(outputs, padded, radius=1.0) == pytest.approx(plain, rel=1e-6)


def test_a_batch_without_objects_has_a_finite_loss_and_gradient(batch):
    outputs = outputs_of(prototypes=4)
    empty = batch | {"labels": np.full((3, 2), -1, np.int32)}
    task = tasks.detection(Told(outputs, num_prototypes=4), SHAPE)

    def loss(params):
        mean, _ = task.loss(params, {}, empty, jax.random.key(0), True, {})
        return mean.value

    value, gradient = jax.value_and_grad(loss)({"scale": jnp.float32(1)})
    assert np.isfinite([value, gradient["scale"]]).all()
    assert measure(outputs, empty)["box_loss"] == 0


def test_cells_in_a_crowd_are_not_told_that_they_are_background(batch):
    outputs = outputs_of()
    crowd = np.zeros((3, 2), bool)
    crowd[0, 1] = True
    without = batch | {"labels": np.where(crowd, -1, batch["labels"])}
    centers = np.asarray(dense.cell_centers(LEVELS))
    x0, y0, x1, y1 = batch["boxes"][0, 1]
    inside = (x0 <= centers[:, 0]) & (centers[:, 0] < x1) & (y0 <= centers[:, 1]) & (centers[:, 1] < y1)
    # What a cell in the crowd says of classes counts for nothing; as background it would.
    changed = outputs._replace(class_logits=outputs.class_logits.at[0].add(3.0 * inside[:, None]))
    told = measure(outputs, batch | {"crowd": crowd})
    assert measure(changed, batch | {"crowd": crowd}) == pytest.approx(told, rel=1e-6)
    assert measure(changed, without)["class_loss"] > 1.5 * measure(outputs, without)["class_loss"]
    assert told["box_loss"] == pytest.approx(measure(outputs, without)["box_loss"], rel=1e-6)


def test_the_mask_loss_is_a_mean_over_the_pixels_of_a_box_of_each_object(batch):
    outputs = outputs_of(prototypes=4)
    measured = measure(outputs, batch)["mask_loss"]
    total = 0.0
    for i, n in ((0, 0), (0, 1), (1, 0)):
        own = tasks.assign_cells(
            jnp.asarray(batch["boxes"][i]), jnp.asarray(batch["labels"][i] >= 0), LEVELS, limits=(2**2.5 * 4,)
        ).own
        logits = np.asarray(outputs.prototypes[i] @ outputs.coefficients[i, own[n]], np.float64)
        x0, y0, x1, y1 = batch["boxes"][i, n]
        values = []
        for row in range(16):
            for column in range(24):
                x, y = 2 * column + 1, 2 * row + 1
                if x0 <= x < x1 and y0 <= y < y1:
                    part = batch["masks"][i, n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
                    logit = logits[row, column]
                    values.append(np.logaddexp(0, logit) - part * logit)
        total += np.mean(values)
    assert measured == pytest.approx(total / (3 + 3), rel=1e-4)


def test_the_semantic_loss_ignores_pixels_without_a_class(batch):
    outputs = outputs_of(semantic=5)
    changed = jnp.where((batch["semantic"] < 0)[..., None], 100.0, outputs.semantic_logits)
    plain = measure(outputs, batch)
    assert measure(outputs._replace(semantic_logits=changed), batch) == pytest.approx(plain, rel=1e-6)
    nll = -np.asarray(jax.nn.log_softmax(outputs.semantic_logits))
    counts = np.array([3, 2, 1])  # objects and 1
    values = []
    for i, classes in enumerate(batch["semantic"]):
        rows, columns = np.nonzero(classes >= 0)
        values.append(nll[i][rows, columns, classes[rows, columns]].mean())
    assert plain["semantic_loss"] == pytest.approx(np.average(values, weights=counts), rel=1e-4)


def test_objects_are_found_best_first_and_once_each():
    outputs = outputs_of(batch=1)
    logits = jnp.full_like(outputs.class_logits, -20.0)
    boxes = outputs.boxes
    for cell, label, box, logit in (
        (0, 1, (2, 2, 10, 10), 2.0),
        (1, 1, (2, 2, 10, 11), 1.0),  # the same object, seen by a neighbor
        (2, 0, (2, 2, 10, 10), 0.5),  # another class at the same place
        (40, 2, (-5, 20, 60, 40), 3.0),  # reaches out of the image
    ):
        logits = logits.at[0, cell, label].set(logit)
        boxes = boxes.at[0, cell].set(jnp.array(box, jnp.float32))
    outputs = outputs._replace(class_logits=logits, boxes=boxes, quality_logits=jnp.full((1, CELLS), 20.0))
    model = Told(outputs)
    variables = {"params": {"scale": jnp.float32(1)}}
    found = tasks.find_objects(model, variables, jnp.zeros((1, *SHAPE)), most=5)
    assert found.labels.tolist() == [[2, 1, 0, -1, -1]]
    np.testing.assert_allclose(found.scores[0], [*(1 / (1 + np.exp(-np.array([3, 2, 0.5])))), 0, 0], rtol=1e-5)
    assert found.boxes[0, :3].tolist() == [[0, 20, 48, 32], [2, 2, 10, 10], [2, 2, 10, 10]]
    assert (found.masks, found.classes, found.ids) == (None, None, None)


def test_the_panoptic_truth_gives_a_pixel_in_two_masks_to_the_smaller_object():
    masks = np.zeros((1, 3, 4, 4), np.uint8)
    masks[0, 0, :2] = 1
    masks[0, 1, :4, :3] = 1
    masks[0, 2] = 1  # padding
    semantic = np.full((1, 4, 4), 7, np.int32)
    semantic[0, 3, 3] = -1
    classes, ids = tasks.panoptic_truth(jnp.asarray(masks), jnp.array([[4, 5, -1]]), jnp.asarray(semantic))
    assert ids[0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 2, 0], [2, 2, 2, 0]]
    assert classes[0].tolist() == [[4] * 4, [4] * 4, [5, 5, 5, 7], [5, 5, 5, -1]]
