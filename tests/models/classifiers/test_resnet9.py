"""ResNet-9: its published size, its smallest image, and what it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models


def test_it_has_the_published_number_of_parameters():
    assert models.count_parameters(models.create("resnet9"), (32, 32, 3)) == 6_573_120


def test_the_smallest_image_goes_through_and_a_smaller_one_is_refused():
    model = models.create("resnet9_4", num_classes=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    logits = model.apply(variables, jnp.ones((2, 8, 8, 1)))
    assert logits.shape == (2, 3)
    with pytest.raises(ValueError, match="at least 8×8"):
        model.apply(variables, jnp.ones((2, 7, 8, 1)))
    with pytest.raises(ValueError, match="width is 0"):
        models.create("resnet9_0")
    with pytest.raises(ValueError, match="num_classes of at least 1; it is 0"):
        models.count_parameters(models.create("resnet9", num_classes=0), (8, 8, 1))


def test_logits_scale_with_the_field_and_residual_branches_begin_behind_relu():
    x = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    model = models.create("resnet9_4")
    variables = model.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        model.clone(scale=1.0).apply(variables, x), 8 * model.apply(variables, x), rtol=1e-5, atol=1e-6
    )
