"""A denoising network of ours with the weights of `weights.py`, and how far it may be from what torch answered."""

import jax
import numpy as np
from etude.models import pretrained
from noisy_images import noisy_images
from parity import variables_by_rule


def check(golden, name, model):
    """Asserts that answers, and the norms of the gradients of every weight, are those of a golden file.

    Args:
      golden: of the script's making.
      name: of its answers.
      model: our network.
    """
    images, steps, labels, noise = noisy_images()
    variables = variables_by_rule(model, images.shape[1:])
    time = (steps / 1000).astype(np.float32)

    @jax.jit
    def gradient(variables):
        def loss(variables):
            y = model.apply(variables, images, time, None if model.num_classes is None else labels)
            return ((y - noise[..., : y.shape[-1]]) ** 2).mean(), y

        return jax.grad(loss, has_aux=True)(variables)

    gradients, output = gradient(variables)
    expected = golden[f"{name}_output"]
    assert np.abs(output - expected).max() < 1e-4 * np.abs(expected).max()
    names, wanted = golden[f"{name}_gradient_names"], golden[f"{name}_gradient_norms"]
    norms = {key: np.linalg.norm(np.float64(x)) for key, x in pretrained.to_torch(model, gradients).items()}
    assert sorted(norms) == sorted(names)
    # (A key's bias moves all of a query's agreements alike, so its gradient is 0 but for rounding.)
    np.testing.assert_allclose([norms[key] for key in names], wanted, rtol=1e-4, atol=1e-6 * wanted.max())
