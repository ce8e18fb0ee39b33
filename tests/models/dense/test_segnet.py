"""SegNet: its parameters written out, any size, and a decoder that gets places alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models.dense import SegNet

KEY = jax.random.key(7, impl="unsafe_rbg")
SMALL = SegNet(num_classes=3, stages=((4, 4), (6, 6, 6)))


def test_parameters_are_those_of_vgg16_and_its_mirror_image():
    # Convolutions with biases, each followed by a scale and a shift; the last leads to the classes. The paper counts
    # 29.45 M, with 11 classes.
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 2, (256, 512), *[(512, 512)] * 5]
    encoder = sum(9 * before * after + 3 * after for before, after in pairs)
    decoder = sum(9 * after * before + 3 * before for before, after in pairs[1:])
    assert models.count_parameters(SegNet(num_classes=11), (360, 480, 3)) == encoder + decoder + 9 * 64 * 11 + 11
    assert round((encoder + decoder + 9 * 64 * 11 + 11) / 1e6, 2) == pytest.approx(29.45, abs=0.02)
    assert models.count_parameters(models.create("segnet"), (32, 32, 3)) == encoder + decoder + 9 * 64 * 12 + 12


@pytest.mark.parametrize("shape", [(2, 360, 480, 3), (1, 33, 17, 1), (1, 1, 1, 3)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_size_gets_an_answer_for_every_pixel(shape, dtype):
    model = SMALL.clone(dtype=dtype)
    answer = jax.eval_shape(lambda x: model.apply(model.init(KEY, x), x), jax.ShapeDtypeStruct(shape, jnp.float32))
    assert (answer.shape, answer.dtype) == ((*shape[:3], 3), jnp.float32)


def test_every_parameter_learns_and_training_moves_the_averages():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 7, 3)), jnp.float32)
    variables = jax.jit(SMALL.init)(KEY, x)

    @jax.jit
    def gradient(params):
        def loss(params):
            y, state = SMALL.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])
            return (y**2).sum(), state

        return jax.grad(loss, has_aux=True)(params)

    gradients, state = gradient(variables["params"])
    silent = {name for name, leaves in gradients.items() if not all(np.abs(leaf).max() > 0 for leaf in leaves.values())}
    assert not silent
    assert np.abs(state["batch_stats"]["decoder1_bn1"]["mean"]).max() > 0


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [(SMALL, (8, 8, 3), "height, width, channel"), (SMALL.clone(stages=((4, 0),)), (1, 8, 8, 3), "at least 1 channel")],
)
def test_ranks_and_stages_that_do_not_fit_are_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.init(KEY, jnp.zeros(shape))
