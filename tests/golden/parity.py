"""Our networks with the weights of `weights.py`, and how far they may be from what torch answered."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from etude import losses, models
from etude.models import pretrained
from weights import inputs, weight


def check(golden, name, mode, precision, *, tolerance=1e-4, **fields):
    """Asserts that logits, and the norms of the gradients of every weight, are those of a golden file.

    Args:
      golden: of the script's making.
      name: of our network, and of its answers.
      mode: "eval" or "train".
      precision: "float32", or "float64" to hold every norm to 1e-5 (of itself, or 1e-6 of the greatest).
      tolerance: in float32, of the norm of all gradients together, and of each to the greatest.
      fields: of our network.
    """
    with jax.enable_x64(precision == "float64"):
        logits, gradients = answer(name, mode, precision, **fields)
    expected = golden[f"{name}_{mode}_logits"]
    wanted = golden[f"{name}_{mode}_gradient_norms"]
    names = golden[f"{name}_{mode}_gradient_names"]
    assert sorted(names) == sorted(gradients)
    norms = [np.linalg.norm(gradients[key].astype(np.float64)) for key in names]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    if precision == "float64":  # but for logits and loss, which may be float32
        np.testing.assert_allclose(norms, wanted, rtol=1e-5, atol=1e-6 * wanted.max())
    else:
        np.testing.assert_allclose(np.linalg.norm(norms), np.linalg.norm(wanted), rtol=tolerance)
        np.testing.assert_allclose(norms, wanted, rtol=tolerance, atol=tolerance * wanted.max())


def answer(name, mode, precision, **fields):
    """(logits, gradients under torch's names) of our network."""
    images, labels = inputs()
    model = models.create(name, dtype=jnp.dtype(precision), param_dtype=jnp.dtype(precision), **fields)
    variables = variables_by_rule(model, images.shape[1:], precision)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(params):
        logits, _ = model.apply(variables | {"params": params}, images, train=mode == "train", mutable=["batch_stats"])
        return losses.cross_entropy(logits, jnp.asarray(labels)).mean(), logits

    gradients, logits = gradient(variables["params"])
    return np.asarray(logits), pretrained.to_torch(model, {"params": gradients})


def variables_by_rule(model, image_shape, precision="float32"):
    """Variables of one of our networks, by the names that torch has for them."""
    # BatchNorm's running averages are float32 by default, whatever the network.
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, precision), pretrained.template(model, image_shape))
    shapes = pretrained.to_torch(model, jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), template))
    return pretrained.from_torch(model, {key: weight(key, x.shape) for key, x in shapes.items()}, template)
