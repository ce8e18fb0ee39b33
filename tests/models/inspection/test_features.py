"""Features of classifiers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models import penultimate


@pytest.mark.parametrize(
    ("name", "head", "biased"),
    [
        ("resnet8", "fc", True),
        ("resnet9_4", "head", False),
        ("vit_micro_patch2_8", "head", True),
        ("mlp", "output", True),
    ],
)
def test_the_head_makes_the_logits_of_the_features(name, head, biased, key):
    model = models.create(name, num_classes=10)
    x = jax.random.normal(key, (3, 8, 8, 1))
    variables = model.init(key, x, train=False)
    logits, features = jax.jit(lambda variables: penultimate(model, variables, x))(variables)
    layer = variables["params"][head]
    expected = features @ layer["kernel"] + (layer["bias"] if biased else 0)
    scale = getattr(model, "scale", 1)
    np.testing.assert_allclose(logits, scale * expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, model.apply(variables, x, train=False), rtol=1e-5, atol=1e-6)


def test_a_network_without_a_dense_layer_has_none(key):
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            return x.mean((1, 2))

    with pytest.raises(ValueError, match="Mean has no dense layer"):
        penultimate(Mean(), {}, jnp.ones((1, 2, 2, 3)))
