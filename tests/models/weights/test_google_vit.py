"""Google's files of vision transformers: the answers of timm that read the same file, and files that are none."""

import importlib.util
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from etude.models import ViT, pretrained

FOLDER = Path(__file__).resolve().parents[2] / "golden"
GOLDEN = np.load(FOLDER / "google_vit.npz")
SHAPE = (64, 64, 3)


@pytest.fixture(scope="module")
def google():
    """The script that made the answers; it makes the files anew."""
    spec = importlib.util.spec_from_file_location("google_vit", FOLDER / "google_vit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(google):
    return ViT(google.CLASSES, patch_size=google.PATCH, width=google.WIDTH, depth=google.DEPTH, num_heads=google.HEADS)


@pytest.mark.parametrize("layout", ["vision_transformer", "opt/target", "big_vision", "scan"])
def test_the_logits_are_those_of_timm_from_the_same_file(layout, google, model, tmp_path):
    np.savez(tmp_path / "vit.npz", **google.google_arrays(layout))
    variables = pretrained.load(model, tmp_path / "vit.npz", SHAPE)
    logits = jax.jit(model.apply)(variables, google.inputs()[0])
    np.testing.assert_allclose(logits, GOLDEN[layout.replace("/", "_")], rtol=1e-4, atol=1e-5)


def test_a_hidden_layer_before_the_classifier_leaves_with_it(google, model, tmp_path):
    arrays = google.google_arrays("vision_transformer")
    arrays |= {"pre_logits/kernel": np.zeros((48, 48)), "pre_logits/bias": np.zeros(48)}
    np.savez(tmp_path / "vit.npz", **arrays)
    assert not any(name.startswith(("head", "pre_logits")) for name in pretrained.read(tmp_path / "vit.npz"))
    with pytest.raises(ValueError, match=r"missing: head\.bias, head\.weight\.$"):
        pretrained.load(model, tmp_path / "vit.npz", SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_root/kernel": np.zeros((7, 7, 3, 8))}, "another network than a vision transformer of patches"),
        ({"embedding/kernel": None}, "it has no embedding/kernel"),
        ({"Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias": None}, "block 1 has no query, key"),
        ({"embedding/bias": np.array({"a": 1}, object)}, "not a readable .npz file"),
    ],
)
def test_a_file_of_another_network_is_refused(change, message, google, tmp_path):
    arrays = google.google_arrays("vision_transformer") | change
    np.savez(tmp_path / "vit.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=message):
        pretrained.read(tmp_path / "vit.npz")


def test_an_archive_that_would_unpack_to_far_more_than_its_size_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "vit.npz", **{"embedding/kernel": np.zeros(2**25, np.float32)})
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacks"))
    assert (tmp_path / "vit.npz").stat().st_size < 2**18
    with pytest.raises(ValueError, match=r"would unpack to 134,\d+,\d+ bytes, more than weights of its size do"):
        pretrained.read(tmp_path / "vit.npz")


def test_a_shape_that_no_memory_holds_is_refused(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1125899906842624,), }\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with zipfile.ZipFile(tmp_path / "vit.npz", "w") as archive:
        archive.writestr("embedding/kernel.npy", array)
    with pytest.raises(ValueError, match=r"not a readable \.npz file"):
        pretrained.read(tmp_path / "vit.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"x" * 1000])
def test_a_file_that_is_no_archive_is_refused(content, tmp_path):
    (tmp_path / "vit.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable"):
        pretrained.read(tmp_path / "vit.npz")
