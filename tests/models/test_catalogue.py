"""The catalogue: what names stand for, and networks of the user's own by their import path."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from etude import models

OWN = '''
"""Networks of a user."""
from flax import linen as nn
from etude import models
from helper import WIDTH


def tiny(num_classes=10, **fields):
    return models.MLP(num_classes, hidden=(WIDTH,), **fields)


def nothing():
    return 3


class Denoiser(nn.Module):
    @nn.compact
    def __call__(self, x, time, *, train=False):
        return nn.Dense(x.shape[-1])(x) * time


denoiser = models.Entry(Denoiser, "denoiser", models.array_and_time)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module in the current folder, which imports another from there."""
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("WIDTH = 7")
    (tmp_path / "broken_models.py").write_text("import not_installed_anywhere")
    monkeypatch.chdir(tmp_path)
    yield "own_models"
    for name in ("own_models", "helper", "broken_models"):
        sys.modules.pop(name, None)


TRIED = ("generator", "discriminator", "segmenter", "translator", "language_model", "text_classifier", "text_encoder")


def test_every_name_makes_a_network_that_its_declared_inputs_fit():
    shapes = {"classifier": (224, 224, 3), "denoiser": (32, 32, 3), "generator": (16,), "discriminator": (32, 32, 3)}
    shapes |= {"autoencoder": (28, 28, 1), "segmenter": (64, 64, 3), "detector": (64, 64, 3)}
    shapes |= {"translator": (7, 9), "language_model": (9,), "text_classifier": (9,), "text_encoder": (9,)}
    special = {"unet_valid": (188, 188, 1)}
    assert {models.entry(name).role for name in models.names()} == shapes.keys()
    small = ("mlp", "resnet8", "wrn10_2", "ddpm_cifar10", "dit_small_patch8", "dense_vae", "conv_vae", "vqvae")
    for name in (
        *small,
        *(name for role in TRIED for name in models.names(role)),
    ):
        model = models.create(name)
        assert models.count_parameters(model, special.get(name, shapes[models.entry(name).role])) > 0
        assert models.entry_of(model).role == models.entry(name).role


def test_names_of_a_role_are_those_whose_rows_declare_it():
    assert models.names("classifier")[:3] == ("mlp", "linear", "convnet")
    assert set(models.names("denoiser")) == {"ddpm_cifar10"} | {
        f"dit_{size}_patch{patch}" for size in ("small", "base", "large", "xlarge") for patch in (2, 4, 8)
    }
    by_role = [models.names(role) for role in dict.fromkeys(models.entry(name).role for name in models.names())]
    assert sorted(sum(by_role, ())) == sorted(models.names())
    with pytest.raises(ValueError, match=r"no role .classifer.\. Valid are: classifier, denoiser"):
        models.names("classifer")


def test_networks_with_labels_are_counted_with_their_labels():
    free, labeled = (models.create("dcgan_generator", num_classes=n, width=4) for n in (None, 3))
    # One-hot labels join the latent vector: 3 more rows of the projection to 7·7 pixels of 8 channels.
    assert models.count_parameters(labeled, (5,)) - models.count_parameters(free, (5,)) == 3 * 7 * 7 * 8


def test_an_unknown_name_is_refused_with_the_names_near_it():
    with pytest.raises(ValueError, match=r"no model 'resnet21'\. Did you mean resnet\d+.* package\.module:function"):
        models.create("resnet21")


def test_a_network_of_ones_own_is_made_by_its_import_path(own):
    path = list(sys.path)
    model = models.create(f"{own}:tiny", num_classes=3)
    assert isinstance(model, models.MLP)
    assert models.count_parameters(model, (5,)) == 5 * 7 + 7 + 7 * 3 + 3
    assert models.entry(f"{own}:tiny").role == "classifier"
    assert sys.path == path
    assert f"{own}:tiny" not in models.names()


def test_a_network_of_ones_own_can_declare_its_role_and_inputs(own):
    row = models.entry(f"{own}:denoiser")
    assert row.role == "denoiser"
    assert models.count_parameters(models.create(f"{own}:denoiser"), (8,), row.inputs) == 8 * 8 + 8


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("own_modls:tiny", ValueError, r"no module 'own_modls'.*The folder .* was searched"),
        ("own_models.inner:tiny", ValueError, r"no module 'own_models\.inner'"),
        ("own_models:tinny", ValueError, r"own_models\.py has no function 'tinny'.* Did you mean tiny"),
        ("own_models:nothing", ValueError, r"own_models:nothing made int, which is no flax\.linen\.Module"),
        ("own_models:", ValueError, r"no import path; wanted: package\.module:function"),
        ("own models:tiny", ValueError, "no import path"),
        ("broken_models:tiny", ModuleNotFoundError, "not_installed_anywhere"),
    ],
)
def test_an_import_path_to_nothing_says_what_is_missing(own, path, error, message):
    with pytest.raises(error, match=message):
        models.create(path)


def test_fields_that_a_network_lacks_are_refused(own):
    with pytest.raises(ValueError, match=r"own_models:tiny has no field depth\. Its fields are: num_classes, hidden"):
        models.create(f"{own}:tiny", depth=3)


def test_every_class_of_network_is_reached_from_the_room():
    for name in models.names():
        made = type(models.create(name))
        assert getattr(models, made.__name__) is made
    x = jnp.ones((1, 4, 4, 2))
    assert models.layers.conv(x, jnp.ones((3, 3, 2, 5))).shape == (1, 4, 4, 5)
    assert isinstance(models.generative.reparameterize(x, x, x), jax.Array)
    assert callable(models.pretrained.load)
    assert callable(models.weights.load)


def test_importing_the_room_imports_no_room_but_that_of_errors_and_nothing_slow():
    code = """
import sys
from etude import models
slow = {"optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "scipy.stats"}
print(*sorted(slow & sys.modules.keys()), *(name for name in sys.modules if name.startswith("etude.") and
      not name.startswith(("etude.models", "etude.errors"))))
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == ""
