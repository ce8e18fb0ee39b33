"""A network as plain values and back: equal networks, and one message where that can't be."""

import json

import flax.linen as nn
import jax.numpy as jnp
import pytest
from etude import models
from etude.models.layers import ACTIVATIONS

WITH_CLASSES = tuple(name for role in ("classifier", "segmenter", "detector") for name in models.names(role))


class Own(nn.Module):
    width: int
    change: object = nn.relu


def there_and_back(model, name=None):
    name, described = models.describe(model, name)
    return models.rebuild(name, json.loads(json.dumps(described)))


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_every_network_with_classes_is_made_again_of_its_description(name):
    model = models.create(name, num_classes=7, dtype=jnp.bfloat16)
    assert there_and_back(model, name) == model


@pytest.mark.parametrize("name", ["mlp", "resnet50", "preact_resnet8", "vit_micro_patch2_8"])
def test_a_network_without_a_name_is_made_again_by_its_class(name):
    model = models.create(name, num_classes=7)
    assert there_and_back(model) == model


def test_activations_are_kept_by_their_names_and_layouts_are_not():
    model = models.MLP(hidden=(3,), activation=ACTIVATIONS["swish"])
    assert there_and_back(model) == model
    spread = models.create("resnet8").clone(axis_name="batch")
    assert there_and_back(spread, "resnet8") == models.create("resnet8")


def test_a_class_without_defaults_is_made_of_its_fields():
    assert there_and_back(Own(3)).width == 3


def test_a_function_of_ones_own_is_not_kept_and_said_to_be_missing():
    with pytest.raises(ValueError, match=r"had the activation <function .*, which no file can hold"):
        there_and_back(models.MLP(activation=lambda x: x))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"depth": 3}, "mlp has no field depth now"),
        ({"activation": "rely"}, "there is no such activation"),
        ({"dtype": "float31"}, "no data type"),
    ],
)
def test_a_description_that_is_wrong_is_refused(described, message):
    with pytest.raises(ValueError, match=message):
        models.rebuild("mlp", described)
