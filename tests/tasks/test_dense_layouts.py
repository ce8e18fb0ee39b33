"""Segmentation and detection give the same numbers however the images of a batch are spread over devices."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from etude import data, models, tasks
from etude.lab.segmenter import border_weights

SIZE, STEPS = 32, 2
SOURCE = data.in_memory(data.subset(data.load(f"scenes:{SIZE}", "train"), 24))  # a batch of 16, and one of 8 filled up
SHAPE, CLASSES = (SIZE, SIZE, 3), len(SOURCE.classes)
THINGS = sum(SOURCE.is_thing)


def scaled(images):
    return images / 255 - 0.5


def segmentation(axis_name):
    network = models.create("unet_bn", num_classes=CLASSES, width=4, depth=2, axis_name=axis_name)
    weights = partial(border_weights, factor=10.0)
    return tasks.segmentation(network, SHAPE, CLASSES, preprocess=scaled, pixel_weights=weights)


def detection(axis_name):
    network = models.GridDetector(
        num_classes=THINGS,
        widths=(4, 8, 8),
        levels=2,
        channels=8,
        num_prototypes=4,
        num_semantic=CLASSES,
        axis_name=axis_name,
    )
    return tasks.detection(network, SHAPE, preprocess=scaled)


def with_more_places(source):
    """The same scenes with room for seven objects; boxes and masks in the empty places say nothing."""
    arrays, rng = source.arrays(), np.random.default_rng(0)
    count, (_, height, width) = len(source), arrays["masks"].shape[1:]
    more = {
        "boxes": rng.uniform(0, SIZE, (count, 2, 4)).astype(np.float32),
        "labels": np.full((count, 2), -1, np.int32),
        "crowd": np.ones((count, 2), bool),
        "masks": rng.integers(0, 2, (count, 2, height, width)).astype(np.uint8),
    }
    arrays |= {name: np.concatenate([arrays[name], each], 1) for name, each in more.items()}
    spec = {name: jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for name, each in arrays.items()}
    return data.Source("scenes", "train", data.Arrays(arrays), spec, source.classes)


@pytest.fixture(scope="module")
def run(tools):
    @cache
    def run(make_task, layout, source=SOURCE):
        task = make_task(tools.make_layout(layout).axis_name)
        problem = tools.Problem(layout, task=task, augmented=False)
        state, metrics = problem.run(source, STEPS, drop_remainder=False)
        evaluate = problem.evaluate(source, batch_size=16)
        return state, metrics, evaluate(problem.layout.place_variables(state.variables))

    return run


def assert_agree(measured, expected, tolerance):
    """Of parameters, sums in another order change the last digits; some biases before BatchNorm are nothing else."""
    (state, metrics, scores), (other, others, wanted) = measured, expected
    parameters = (map(np.asarray, jax.tree.leaves(each.params)) for each in (state, other))
    for mine, reference in zip(*parameters, strict=True):
        rounding = 1e-5 * np.sqrt(reference.size)
        assert np.linalg.norm(mine - reference) <= tolerance * np.linalg.norm(reference) + rounding
    for mine, reference in ((metrics, others), (scores, wanted)):
        assert mine.keys() == reference.keys()
        for name, values in mine.items():
            np.testing.assert_allclose(values, reference[name], rtol=tolerance, err_msg=name)


# The slow two add little: data and fsdp differ in where parameters wait, whatever the task.
@pytest.mark.parametrize(
    ("make_task", "layout"),
    [
        (segmentation, "fsdp"),
        (segmentation, "pmap"),
        pytest.param(segmentation, "data", marks=pytest.mark.slow),
        (detection, "data"),
        (detection, "pmap"),
        pytest.param(detection, "fsdp", marks=pytest.mark.slow),
    ],
)
def test_every_layout_gives_the_same_numbers(run, make_task, layout):
    assert_agree(run(make_task, layout), run(make_task, "jit"), 1e-4)


def test_empty_places_for_objects_change_nothing(run):
    assert_agree(run(detection, "data", with_more_places(SOURCE)), run(detection, "data"), 1e-5)
