"""Receptive fields, against published ones, closed forms and the inputs that a measured gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models import ReceptiveField, Window, receptive_field
from etude.models.layers import conv, max_pool
from hypothesis import given, settings
from hypothesis import strategies as st

CONV, POOL = Window(3, padding=1), Window(2, 2)


def vgg16():
    return [layer for convolutions in (2, 2, 3, 3, 3) for layer in (*[CONV] * convolutions, POOL)]


def resnet50():
    """As in TF-Slim, whose stages have their stride in the last block, not in the first."""
    strides = [2 if stage < 3 and block == n - 1 else 1 for stage, n in enumerate((3, 4, 6, 3)) for block in range(n)]
    blocks = [layer for stride in strides for layer in (Window(1), Window(3, stride, padding=1), Window(1))]
    return [Window(7, 2, padding=3), Window(3, 2, padding=1), *blocks]


ALEXNET = [
    *(Window(11, 4), Window(3, 2), Window(5, padding=2), Window(3, 2)),
    *(CONV, CONV, CONV, Window(3, 2)),
]


@pytest.mark.parametrize(
    ("layers", "size", "jump"), [(ALEXNET, 195, 32), (vgg16(), 212, 32), (resnet50(), 483, 32), ([], 1, 1)]
)
def test_networks_have_the_published_receptive_fields(layers, size, jump):
    # The table of Araujo, Norris, Sim 2019.
    field = receptive_field(layers)
    assert (field.size, field.jump) == (size, jump)


@given(kernel=st.integers(1, 11), depth=st.integers(0, 20))
def test_without_pooling_the_field_grows_linearly_with_depth_and_kernel(kernel, depth):
    assert receptive_field([Window(kernel)] * depth).size == 1 + (kernel - 1) * depth


@given(kernel=st.integers(1, 11), depth=st.integers(0, 20))
def test_with_pooling_it_grows_exponentially_with_depth(kernel, depth):
    assert receptive_field([Window(kernel), POOL] * depth).size == 1 + kernel * (2**depth - 1)


LAYERS = st.lists(
    st.builds(Window, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)), max_size=4
)


def apply_stack(layers, x):
    """x [length] through convolutions with positive weights, whose gradient nothing cancels."""
    x = x[None, :, None]
    for layer in layers:
        x = jax.lax.conv_general_dilated(
            x,
            jnp.ones((layer.kernel, 1, 1)),
            (layer.stride,),
            [(layer.padding, layer.padding)],
            rhs_dilation=(layer.dilation,),
            dimension_numbers=("NHC", "HIO", "NHC"),
        )
    return x[0, :, 0]


def reached(layers, length, output):
    """The inputs at which an output has a gradient."""
    gradient = jax.jit(jax.grad(lambda x: apply_stack(layers, x)[output]))(jnp.ones(length))
    return set(np.flatnonzero(np.asarray(gradient)).tolist())


def read(layers, output):
    """The inputs that an output reads, its windows followed backwards one by one."""
    places = {output}
    for layer in reversed(layers):
        places = {
            place * layer.stride + tap * layer.dilation - layer.padding
            for place in places
            for tap in range(layer.kernel)
        }
    return places


@settings(max_examples=40)
@given(layers=LAYERS)
def test_the_field_is_the_support_of_the_measured_gradient(layers):
    # Given an output whose field lies within the input,
    field = receptive_field(layers)
    output = -(field.start // field.jump)
    length = field.of(output).stop
    # then its gradient reaches from the first to the last entry of the field,
    support = reached(layers, length, output)
    assert (min(support), max(support) + 1) == (field.of(output).start, length)
    # and all that its windows read, which is all between if they step over nothing.
    assert support == read(layers, output)
    if all(layer.stride <= layer.kernel and layer.dilation == 1 for layer in layers):
        assert support == set(field.of(output))


@pytest.mark.parametrize("output", [0, 1, 4])
def test_at_the_border_what_lies_in_the_padding_is_cut_off(output):
    layers, length = [Window(5, 2, padding=2), Window(3, padding=1), Window(3, 2, padding=1)], 17
    expected = set(receptive_field(layers).of(output)) & set(range(length))
    assert reached(layers, length, output) == expected
    assert (0 in expected, length - 1 in expected) == (output < 2, output == 4)


def test_in_images_each_axis_has_its_own_and_max_pooling_can_see_all_of_it():
    rows = [Window(3, padding=1), Window(2, 2), Window(3, 2)]
    columns = [Window(1), Window(3, 2), Window(3)]

    def stack(x):
        x = conv(x, jnp.ones((3, 1, 1, 1)), padding=((1, 1), (0, 0)))
        x = max_pool(x, (2, 3), strides=(2, 2))
        return conv(x, jnp.ones((3, 3, 1, 1)), strides=(2, 1), padding="VALID")[0, :, :, 0]

    # When a pixel at a time is raised above all others,
    image = jax.random.uniform(jax.random.key(0), (17, 13))
    raised = image + 10 * jnp.eye(image.size).reshape(-1, *image.shape)
    answer = jax.jit(jax.vmap(lambda image: stack(image[None, ..., None])[1, 2]))
    changes = answer(raised) != answer(image[None])
    # then output (1, 2) changes exactly for those in its field.
    seen = np.argwhere(np.asarray(changes).reshape(image.shape))
    top, left = receptive_field(rows).of(1), receptive_field(columns).of(2)
    assert {tuple(place) for place in seen.tolist()} == {(i, j) for i in top for j in left}


def test_the_start_is_the_padding_seen_from_the_input():
    assert receptive_field([Window(3, 2, padding=1), Window(3, padding=2)]) == ReceptiveField(7, 2, -5)
    assert receptive_field([Window(3, 2, padding=1), Window(3, padding=2)]).of(3) == range(1, 8)


@pytest.mark.parametrize("wrong", [{"kernel": 0}, {"kernel": 3, "stride": 0}, {"kernel": 3, "dilation": -1}])
def test_sizes_below_one_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        Window(**wrong)
