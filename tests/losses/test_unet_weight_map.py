"""U-Net's weight map against scipy's distance transform of each object."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from scipy import ndimage

# One program for all, for the 60 maps below.
weight_maps = jax.jit(
    lambda maps, weights, w0, sigma: jax.vmap(
        lambda x: losses.unet_weight_map(x, class_weights=weights, w0=w0, sigma=sigma)
    )(maps)
)


def nearest_two(instances):
    """Distances to the nearest and to the second nearest object, from one distance transform for each object."""
    objects = [label for label in np.unique(instances) if label > 0]
    distances = [np.full(instances.shape, np.inf)] * 2
    distances += [ndimage.distance_transform_edt(instances != label) for label in objects]
    return np.sort(distances, axis=0)[:2]


def maps(count=60, shape=(9, 11)):
    """Maps of up to 6 objects, from empty ones to ones without background, with many equal distances."""
    rng = np.random.default_rng(0)
    density = rng.choice([0, 0.02, 0.1, 0.5, 1], (count, 1, 1))
    return np.where(rng.random((count, *shape)) < density, rng.integers(-1, 7, (count, *shape)), 0)


def test_distances_equal_those_of_scipy():
    instances = maps()
    measured = jax.jit(jax.vmap(losses.distances_to_objects))(instances)
    expected = np.stack([nearest_two(image) for image in instances], 1)
    assert np.isinf(expected).any()
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


@pytest.mark.parametrize("reach", [0, 1, 3, 20])
def test_objects_beyond_the_reach_are_none(reach):
    instances = maps()
    measured = jax.jit(jax.vmap(lambda x: losses.distances_to_objects(x, reach)))(instances)
    expected = np.stack([nearest_two(image) for image in instances], 1)
    np.testing.assert_allclose(measured, np.where(expected <= reach, expected, np.inf), rtol=1e-6)


def test_the_weight_map_equals_equation_2_of_the_paper():
    instances = maps()
    measured = weight_maps(instances, jnp.array([0.5, 3.0]), 7.0, 2.0)
    for image, weights in zip(instances, measured, strict=True):
        first, second = nearest_two(image)
        gap = 7 * np.exp(-((first + second) ** 2) / (2 * 2**2))
        np.testing.assert_allclose(weights, np.where(image > 0, 3.0, 0.5 + gap), rtol=1e-5)


def test_a_map_with_fewer_than_two_objects_has_the_weights_of_its_classes_alone():
    instances = np.where(np.isin(maps(), (0, 4)), maps(), 0)
    measured = weight_maps(instances, jnp.array([1.0, 2.0]), 10.0, 5.0)
    np.testing.assert_array_equal(measured, np.where(instances > 0, 2, 1))


@pytest.mark.parametrize("instances", [jnp.zeros((2, 3)), jnp.zeros((1, 2, 3), int)])
def test_wrong_instances_are_refused(instances):
    with pytest.raises(ValueError, match="height, width"):
        losses.unet_weight_map(instances)


def test_a_negative_reach_is_refused():
    with pytest.raises(ValueError, match="reach is -1"):
        losses.unet_weight_map(jnp.zeros((2, 3), int), reach=-1)
