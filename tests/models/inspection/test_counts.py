"""Sizes of networks that no machine here could hold, counted from shapes alone."""

import jax
import jax.numpy as jnp
import pytest
from etude import models

IMAGE = (224, 224, 3)
WIDTH = 224 * 224 * 3


def lines(model, shape):
    """layer -> (parameters, bytes as printed) of a summary."""
    rows = [line.split(maxsplit=2) for line in models.summary(model, shape).splitlines()]
    return {name: (int(count.replace(",", "")), size.strip()) for name, count, size in rows}


def mlp(layers):
    return models.create("mlp", num_classes=1000, hidden=(WIDTH,) * layers)


def test_the_linear_classifier_of_the_slide_has_150_528_000_weights():
    model = models.create("linear", num_classes=1000)
    assert models.count_parameters(model, IMAGE) == 150_528_000 + 1000
    assert lines(model, IMAGE)["output"] == (150_529_000, "602.1 MB")


def test_one_hidden_layer_as_wide_as_the_image_takes_90_gigabytes():
    rows = lines(mlp(1), IMAGE)
    assert rows["hidden1"] == (22_658_678_784 + WIDTH, "90.6 GB")
    assert rows["total"] == (WIDTH**2 + WIDTH + 1000 * WIDTH + 1000, "91.2 GB")


def test_fifty_hidden_layers_have_over_a_trillion_weights_and_counting_them_allocates_none():
    before = len(jax.live_arrays())
    rows = lines(mlp(50), IMAGE)
    count = models.count_parameters(mlp(50), IMAGE)
    assert len(jax.live_arrays()) == before
    assert count == 50 * (WIDTH**2 + WIDTH) + 1000 * WIDTH + 1000 > 10**12
    assert rows["total"] == (count, "4.5 TB")
    assert len(rows) == 52


def test_the_rows_of_a_summary_are_layers_and_add_up_to_the_count():
    model = models.create("resnet18")
    rows = lines(model, IMAGE)
    total, _ = rows.pop("total")
    assert rows["layer1_first/conv1"] == (64 * 64 * 9, "147.5 kB")
    assert sum(count for count, _ in rows.values()) == total == models.count_parameters(model, IMAGE)


def test_bytes_follow_the_type_of_the_parameters():
    halves = models.create("linear", num_classes=1000, param_dtype=jnp.bfloat16)
    assert lines(halves, IMAGE)["total"] == (150_529_000, "301.1 MB")


@pytest.mark.parametrize("measure", [models.count_parameters, models.summary])
@pytest.mark.parametrize("shape", [(), (1, *IMAGE), (8, 0, 1), (-6,)])
def test_a_shape_that_is_no_input_is_refused(measure, shape):
    with pytest.raises(ValueError, match=r"input_shape is .* without a batch"):
        measure(models.create("mlp"), shape)


def test_a_shape_that_the_network_cannot_read_is_refused_by_the_network():
    with pytest.raises(ValueError, match="height, width, channel"):
        models.count_parameters(models.create("resnet8"), (64,))
