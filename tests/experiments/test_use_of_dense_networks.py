"""What a run trained on scenes is used afterwards, on a user's own images."""

import json
from functools import cache

import numpy as np
import pytest
from etude import data, lab
from etude.experiments.detect import output_names
from etude.lab import cli
from PIL import Image
from pycocotools import mask as coco_mask

SHORT = ["--preset", "smoke", "--batch-size", "8", "--learning-rate", "1e-3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, few_scenes):
    """experiment -> folder of a finished run, of segmentation a population; each trains when it is first asked for."""

    @cache
    def run(name):
        folder = tmp_path_factory.mktemp(name) / "run"
        options = ["--population.seeds", "2", "--population.mode", "map"] if name == "segmentation" else []
        assert cli.main([name, *SHORT, "--data", few_scenes, *options, "--out", str(folder)]) == 0
        return folder

    return run


@pytest.fixture
def photographs(tmp_path):
    """A wide one, a tall gray one, one turned by EXIF, and one of the size of the training images."""
    rng = np.random.default_rng(0)
    sizes = {"wide.png": (50, 20), "tall.png": (17, 60), "turned.jpg": (40, 24), "same.png": (32, 32)}
    for name, (width, height) in sizes.items():
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "turned.jpg" else 1
        (image.convert("L") if name == "tall.png" else image).save(tmp_path / name, exif=exif)
    return [tmp_path / name for name in sizes], [(20, 50), (60, 17), (40, 24), (32, 32)]


@pytest.mark.parametrize("experiment", ["detection", "panoptic"])
def test_a_detector_says_what_is_in_images_of_any_size(experiment, runs, photographs, tmp_path, capsys):
    files, shapes = photographs
    out = tmp_path / "found"
    command = ["detect", *map(str, files), "--run", str(runs(experiment)), "--score", "0", "--most", "4"]
    assert cli.main([*command, "--out", str(out)]) == 0, capsys.readouterr().err
    images = json.loads((out / "detections.json").read_text())["images"]
    assert [(each["height"], each["width"]) for each in images] == shapes
    for each, (height, width) in zip(images, shapes, strict=True):
        assert len(each["objects"]) == 4
        for found in each["objects"]:
            x0, y0, x1, y1 = found["box"]
            assert 0 <= x0 <= x1 <= width
            assert 0 <= y0 <= y1 <= height
            if experiment == "panoptic":
                mask = coco_mask.decode(found["segmentation"])
                assert mask.shape == (height, width)
    assert {path.name for path in out.iterdir()} == {
        "detections.json", "wide.png", "tall.png", "turned.png", "same.png"
    }  # fmt: skip


def test_an_image_of_the_training_size_is_found_in_as_the_test_split_is(runs, few_scenes, tmp_path, capsys):
    folder = runs("detection")
    image = data.load(few_scenes, "test")[3]["image"]
    Image.fromarray(image).save(tmp_path / "scene.png")
    network = lab.load_network(folder, "detector")
    command = ["detect", str(tmp_path / "scene.png"), "--run", str(folder), "--score", "0", "--most", "3"]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    (told,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    normalized = (image / 255 - np.array(network.saved.mean)) / np.array(network.saved.std)
    found = lab.find_objects(
        network.model,
        network.variables,
        normalized[None].astype(np.float32),
        lab.FindingOptions(3, 0.0, 0.5),
        lab.FusionOptions(),
    )
    scores = [each["score"] for each in told["objects"]]
    np.testing.assert_allclose(scores, found.scores[0], atol=2e-4)
    np.testing.assert_allclose([each["box"] for each in told["objects"]], found.boxes[0], atol=0.02)
    names = [network.saved.classes[label] for label in np.asarray(found.labels[0])]
    assert [each["class"] for each in told["objects"]] == names


@pytest.mark.parametrize("experiment", ["segmentation", "panoptic"])
def test_a_segmenter_writes_a_map_of_every_image_that_can_be_trained_on(
    experiment, runs, photographs, tmp_path, capsys
):
    files, shapes = photographs
    folder, out = runs(experiment), tmp_path / "maps"
    assert cli.main(["segment", *map(str, files), "--run", str(folder), "--out", str(out)]) == 0, (
        capsys.readouterr().err
    )
    classes = lab.load_network(folder, role=None).saved.classes
    for path, shape in zip(files, shapes, strict=True):
        with Image.open(out / f"{path.stem}.png") as image:
            assert image.mode == "P"
            values = np.asarray(image)
        assert values.shape == shape
        assert values.max() < len(classes)
        assert (out / f"{path.stem}_overlay.png").exists()
        assert (out / f"{path.stem}_ids.png").exists() == (experiment == "panoptic")
    shown = " ".join(capsys.readouterr().out.split())
    assert "part of the image" in shown
    assert ("Of the population this is member" in shown) == (experiment == "segmentation")


def test_a_network_of_another_role_is_refused_by_name(runs, photographs, few_digits, tmp_path, capsys):
    (path, *_), _ = photographs
    cases = [("detect", "segmentation", "is a segmenter; etude segment uses it"), ("segment", "detection", "detector")]
    cases += [("classify", "detection", "is a detector; etude detect uses it")]
    for command, experiment, message in cases:
        assert cli.main([command, str(path), "--run", str(runs(experiment))]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["detect", "segment"])
def test_files_that_are_no_images_are_named_before_anything_is_written(command, runs, tmp_path, capsys):
    run = runs("detection" if command == "detect" else "segmentation")
    (tmp_path / "notes.png").write_text("no image")
    for name, message in (("notes.png", "notes.png"), ("missing.png", "missing.png")):
        options = ["--run", str(run), "--out", str(tmp_path / "out")]
        assert cli.main([command, str(tmp_path / name), *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert cli.main([command, "--run", str(run)]) == 2
    assert not (tmp_path / "out").exists()


def test_results_of_images_with_one_name_are_numbered(tmp_path):
    paths = (tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.png", tmp_path / "x_1.png")
    names = output_names(paths)
    assert len(set(names)) == 3


def test_networks_that_cannot_do_what_an_experiment_measures_are_refused_first(few_scenes, tmp_path, capsys):
    for name, model, message in (
        ("instance_segmentation", "grid_detector", "grid_detector gives no masks"),
        ("panoptic", "grid_detector_masks", "grid_detector_masks gives no classes of pixels"),
        ("detection", "unet", "unet is a segmenter and does not detect"),
        ("segmentation", "grid_detector", "grid_detector is a detector and does not segment"),
    ):
        options = [*SHORT, "--data", few_scenes, "--model", model, "--out", str(tmp_path / name)]
        assert cli.main([name, *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_data_without_annotations_are_refused_by_what_they_lack(few_digits, tmp_path, capsys):
    for name, message in (("segmentation", "has no classes of pixels"), ("detection", "has no boxes")):
        assert cli.main([name, *SHORT, "--data", few_digits, "--out", str(tmp_path / name)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
