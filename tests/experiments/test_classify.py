"""`etude classify` as a user meets it: the right class, the right pixels, and one message for what is wrong."""

import struct
from dataclasses import replace

import jax
import numpy as np
import pytest
from etude import models
from etude.experiments import classify
from etude.lab import cli
from etude.models import pretrained
from PIL import Image
from safetensors.numpy import save_file

NAME, CLASSES = "resnet8", 6  # a network without weights of its own: the file is made here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of a network that always answers class 4, an image, and labels."""
    folder = tmp_path_factory.mktemp("classify")
    model = models.create(NAME, num_classes=CLASSES)
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), pretrained.template(model, (32, 32, 3)))
    variables["params"]["fc"]["bias"][[4, 1]] = 3.0, 2.0
    pretrained.save(model, variables, folder / "weights.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\n[red] eel\nfox\n", encoding="utf-8")
    return folder


def run(capsys, folder, *options, image="image.png", weights="weights.safetensors"):
    code = cli.main(
        ["classify", str(folder / image), "--model", NAME, "--size", "32", "--weights", str(folder / weights), *options]
    )
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_the_likeliest_classes_are_printed_by_their_labels(folder, capsys):
    code, text = run(capsys, folder, "--labels", str(folder / "labels.txt"), "--top", "2")
    total = np.exp(3) + np.exp(2) + 4
    assert code == 0
    assert f"[red] eel │ {np.exp(3) / total:.4f}" in text
    assert f"bee │ {np.exp(2) / total:.4f}" in text
    assert "ant" not in text


def test_without_labels_classes_are_numbers_and_five_are_told(folder):
    weights = folder / "weights.safetensors"
    (told,) = classify.main(classify.Config((folder / "image.png",), weights=weights, model=NAME, size=32))
    assert [label for label, _ in told] == ["4", "1", "0", "2", "3"]


def test_the_name_of_a_vision_transformer_tells_the_side_of_its_images(folder, tmp_path, capsys):
    model = models.create("vit_micro_patch2_8", num_classes=CLASSES)
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), pretrained.template(model, (8, 8, 3)))
    pretrained.save(model, variables, tmp_path / "weights.safetensors")
    weights = tmp_path / "weights.safetensors"
    config = classify.Config((folder / "image.png",), weights=weights, model="vit_micro_patch2_8")
    classify.main(config)
    assert "interpolated" not in capsys.readouterr().out
    classify.main(replace(config, size=12))
    assert "interpolated for images of 12×12 pixels" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "nothing.png"}, "does not exist"),
        ({"image": "labels.txt"}, "can't be read as an image"),
        ({"image": "half.png"}, "can't be read as an image"),
        ({"image": "deep.tif"}, "convert it to 8 or 16 bits a channel"),
        ({"image": "broken.blp"}, "can't be read as an image"),
        ({"image": "thin.png"}, "would be resized to 2160000×36"),
        ({"weights": "nothing.safetensors"}, "There is no file of weights"),
        ({"weights": "image.png"}, "not a readable safetensors file"),
        ({"weights": "other.safetensors"}, "do not fit this network. unknown: layer1.1"),
    ],
)
def test_a_wrong_file_ends_with_one_message(folder, capsys, options, message):
    whole = (folder / "image.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "deep.tif")
    (folder / "broken.blp").write_bytes(b"BLP2" + struct.pack("<i4b2i", 1, 0, 0, 0, 0, 31, 24) + bytes(1200))
    Image.new("L", (60000, 1)).save(folder / "thin.png")
    other = models.create("resnet14", num_classes=CLASSES, width=4)
    shapes = pretrained.template(other, (32, 32, 3))
    pretrained.save(other, jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes), folder / "other.safetensors")
    code, text = run(capsys, folder, **options)
    assert code == 2
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "nothing.txt"], "There is no file of labels"),
        (["--labels", __file__], "lines; the weights tell 6 classes apart"),
        (["--crop", "1.5"], "crop is 1.5"),
        (["--crop", "0"], "crop is 0"),
        (["--std", "1", "0", "1"], "std is 0.0; it must be positive and finite"),
        (["--std", "nan", "1", "1"], "std is nan; it must be finite"),
        (["--mean", "0", "nan", "0"], "mean is nan; it must be finite"),
        (["--top", "0"], "top is 0; it must be at least 1"),
        (["--size", "0"], "size is 0; it must be at least 1"),
        (["--model", "resnet7"], "There is no model 'resnet7'"),
        (["--model", "mlp"], "missing: params.output.bias"),
    ],
)
def test_a_wrong_choice_ends_with_one_message(folder, capsys, options, message):
    code, text = run(capsys, folder, *options)
    assert code == 2
    assert message in text


def test_the_center_of_a_resized_image_is_seen_normalized():
    # Given a landscape whose left and right thirds differ from its center,
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:64], pixels[:, 64:] = 255, (51, 102, 204), 10
    # when it is prepared whole, then only the center is seen.
    seen = classify.prepare(Image.fromarray(pixels), 32, 1.0, (0.2, 0.2, 0.2), (0.5, 1.0, 2.0), "bilinear")
    np.testing.assert_allclose(seen, np.broadcast_to([0.0, 0.2, 0.3], (32, 32, 3)), atol=1e-6)


@pytest.mark.parametrize("size", [(49, 98), (98, 49), (333, 500)])
def test_the_longer_side_is_resized_to_a_whole_number_of_pixels_as_by_torchvision(size, monkeypatch):
    asked = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, to, *rest: asked.append(to) or resize(self, to, *rest))
    classify.prepare(Image.new("RGB", size), 224, 224 / 256, (0.0,) * 3, (1.0,) * 3, "bilinear")
    # torchvision's functional.resize: int(size * long / short)
    assert asked == [tuple(int(256 * side / min(size)) for side in size)]


def test_labels_are_the_lines_of_an_editor(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffant\r\nbee\u2028hive\r\ncat\r\n".encode())
    assert classify.read_labels(tmp_path / "labels.txt", 3) == ["ant", "bee\u2028hive", "cat"]


def test_logits_that_overflow_are_no_answer(folder, capsys):
    stored = pretrained.read(folder / "weights.safetensors")
    huge = {name: np.full_like(x, 3e38) if name == "fc.weight" else x for name, x in stored.items()}
    huge = {name: np.ones_like(x) if name.endswith("bias") and name != "fc.bias" else x for name, x in huge.items()}
    save_file(huge, folder / "huge.safetensors")
    code, text = run(capsys, folder, weights="huge.safetensors")
    assert code == 2
    assert "logits that are not finite" in text
