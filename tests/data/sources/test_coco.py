"""COCO annotations: read as they are meant, refused with the id of what is wrong, and written so that they return."""

import json
from pathlib import Path

import numpy as np
import pytest
from etude import data
from etude.errors import InputError, MissingFile
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 6, 8
SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]
ENTRY = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 1, 4, 3], "segmentation": [SQUARE], "iscrowd": 0}


@pytest.fixture
def write(tmp_path):
    """(annotations, …) -> name of a set of 12 images; changes are made to its content before it is written."""

    def write(annotations=(), *, change=lambda content: None, size=lambda i: (WIDTH, HEIGHT), name="set.json"):
        (tmp_path / "images").mkdir(exist_ok=True)
        images = []
        for i in range(12):
            Image.new("RGB", size(i), (i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": size(i)[0], "height": size(i)[1]})
        categories = [{"id": 90, "name": "zebra"}, {"id": 7, "name": "cat"}]
        content = {"images": images, "annotations": list(annotations), "categories": categories}
        change(content)
        (tmp_path / name).write_text(json.dumps(content))
        return f"coco:{tmp_path / name}"

    return write


def example_of(name, number=0, **options):
    """(the example of an image, wherever it was carved to; its source)"""
    for split in ("train", "validation", "test"):
        source = data.load(name, split, **options)
        for index, picture in enumerate(source.records.pictures):
            if picture.path.stem == str(number):
                return source[index], source
    raise AssertionError(number)


def test_polygons_and_run_lengths_of_both_kinds_are_the_same_mask(write):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1:4, 1:5] = 1
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    numbers = [7, 3, 3, 3, 3, 3, 3, 3, 20]
    size = [HEIGHT, WIDTH]
    ways = [[SQUARE], {"size": size, "counts": text}, {"size": size, "counts": numbers}]
    example, source = example_of(write([ENTRY | {"id": i, "segmentation": way} for i, way in enumerate(ways)]))
    assert example["masks"].tolist() == [mask.tolist()] * 3
    assert example["boxes"].tolist() == [[1, 1, 5, 4]] * 3
    assert source.classes == ("cat", "zebra")  # by id: 7, 90


def test_objects_are_padded_and_images_without_any_are_examples(write):
    name = write([ENTRY, ENTRY | {"id": 2, "category_id": 90, "iscrowd": 1}, ENTRY | {"id": 3, "image_id": 5}])
    first, source = example_of(name)
    assert first["labels"].tolist() == [0, 1]
    assert first["crowd"].tolist() == [False, True]
    fifth, none = example_of(name, 5)[0], example_of(name, 3)[0]
    assert fifth["labels"].tolist() == [0, -1]
    assert none["labels"].tolist() == [-1, -1]
    assert not none["boxes"].any()
    assert not none["masks"].any()
    assert sum(len(data.load(name, split)) for split in ("train", "validation", "test")) == 12
    assert source.element_spec["masks"].shape == (2, HEIGHT, WIDTH)


def test_boxes_are_cut_at_the_image_and_those_without_area_are_left_out_and_named(write):
    boxes = {11: [-2, -1, 4, 3], 12: [6, 4, 9, 9], 13: [9, 0, 2, 2], 14: [2, 2, 0, 3]}
    entries = [{k: v for k, v in ENTRY.items() if k != "segmentation"} | {"id": i, "bbox": b} for i, b in boxes.items()]
    example, source = example_of(write(entries))
    assert example["boxes"].tolist() == [[0, 0, 2, 2], [6, 4, 8, 6]]
    assert "2 annotations (13, 14)" in source.notes[0]
    assert "masks" not in source.element_spec


def test_masks_are_left_out_if_one_object_has_none(write):
    source = example_of(write([ENTRY, {**ENTRY, "id": 2, "segmentation": []}]))[1]
    assert "masks" not in source.element_spec
    assert "(2)" in source.notes[0]


def test_a_box_that_is_missing_is_that_of_the_mask(write):
    entry = {key: value for key, value in ENTRY.items() if key != "bbox"}
    assert example_of(write([entry]))[0]["boxes"].tolist() == [[1, 1, 5, 4]]


SIZE = {"size": [HEIGHT, WIDTH]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"segmentation": [[1, 1, 5, 1]]}, "Annotation 1 .*at least three points.*got 4"),
        ({"segmentation": [[1, 1, 5, 1, 5, 4, 2]]}, "Annotation 1 .*got 7"),
        ({"segmentation": [[1, 1, 5, 1, 5, None]]}, "Annotation 1 .*finite numbers"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": [48]}}, r"Annotation 1 .*size \[8, 6\]"),
        ({"segmentation": SIZE | {"counts": [47]}}, "Annotation 1 .*add up to 47.*has 48"),
        ({"segmentation": SIZE | {"counts": [50, -2]}}, "Annotation 1 .*whole numbers"),
        ({"segmentation": SIZE | {"counts": "zzz~"}}, "Annotation 1 .*(character|middle|add up)"),
        ({"segmentation": "mask"}, "Annotation 1 .*list of polygons"),
        ({"category_id": 8}, "Annotation 1 .*category 8; there are 7, 90"),
        ({"image_id": 77}, "Annotation 1 .*image 77"),
        ({"bbox": [1, 1, -4, 3]}, "Annotation 1 .*at least 0"),
        ({"bbox": [1, 1, 4]}, "Annotation 1 .*x, y, width, height"),
        ({"bbox": None, "segmentation": None}, "Annotation 1 .*neither"),
    ],
)
def test_a_wrong_annotation_is_refused_with_its_id(write, wrong, message):
    with pytest.raises(InputError, match=message):
        data.load(write([ENTRY | wrong]), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"].append(content["images"][0]), '"images" .*more than once: 0'),
        (lambda content: content["annotations"].extend([ENTRY, ENTRY]), '"annotations" .*more than once: 1'),
        (lambda content: content["categories"].append({"id": 7, "name": "dog"}), '"categories" .*more than once: 7'),
        (lambda content: content["categories"].append({"id": 8, "name": "cat"}), "two categories 'cat'"),
        (lambda content: content.pop("annotations"), 'no list "annotations"'),
        (lambda content: content["annotations"].append({"id": 4}), "id 4.* lacks image_id, category_id"),
        (lambda content: content["images"][3].update(file_name="gone.png"), "1 images .*gone.png"),
        (lambda content: content["images"][0].update(file_name="gone.png"), "gone.png .*is in none of"),
        (lambda content: content["images"][2].update(width=9), "Image 2 .*9×6.*8×6"),
        (lambda content: content["images"].append({"id": 50, "file_name": "3.png"}), "more than once.*3.png"),
    ],
)
def test_a_wrong_file_is_refused(write, change, message):
    with pytest.raises(InputError, match=message):
        data.load(write(change=change), "train")


def test_what_is_no_json_is_refused(tmp_path):
    with pytest.raises(MissingFile, match="no file"):
        data.load(f"coco:{tmp_path / 'none.json'}", "train")
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"no JSON.*line 1"):
        data.load(f"coco:{tmp_path / 'broken.json'}", "train")


def test_images_of_several_sizes_need_a_size_and_are_fitted_with_boxes_and_masks(write):
    name = write([ENTRY], size=lambda i: (WIDTH, HEIGHT) if i == 0 else (4, 4))
    with pytest.raises(InputError, match=r"4×4 pixels and .*8×6.*--image-size"):
        data.load(name, "train")
    example = example_of(name, image_size=16)[0]
    assert example["boxes"].tolist() == [[2, 4, 10, 10]]  # twice as large, 2 pixels lower
    rows, columns = np.nonzero(example["masks"][0])
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [2, 4, 10, 10]
    assert (example["image"][:2] == 114).all()
    assert (example["image"][2:14] == 0).all()


def test_splits_are_the_files_of_like_names(write, tmp_path):
    name = write([ENTRY], name="train.json", change=lambda content: content.update(images=content["images"][:8]))
    write(name="val.json", change=lambda content: content.update(images=content["images"][8:10]))
    write(name="test.json", change=lambda content: content.update(images=content["images"][10:]))
    assert [len(data.load(name, split)) for split in ("train", "validation", "test")] == [8, 2, 2]
    write(name="val.json")
    with pytest.raises(InputError, match="more than once"):
        data.load(name, "train")
    write(name="val.json", change=lambda content: content["categories"].pop())
    with pytest.raises(InputError, match="differ in their categories"):
        data.load(name, "train")


def test_scenes_come_back_from_coco_as_they_were(tmp_path):
    sources = {split: data.subset(data.load("scenes:32/4", split), 4) for split in ("train", "validation", "test")}
    files = [data.export_coco(source, tmp_path) for source in sources.values()]
    for split, source in sources.items():
        back = data.load(f"coco:{files[0]}", split)
        assert (back.classes, back.is_thing) == (source.classes, source.is_thing)
        was, now = source.arrays(), back.arrays()
        most = back.element_spec["labels"].shape[0]
        assert was.keys() == now.keys()
        for each, array in was.items():
            padded = each in ("boxes", "labels", "crowd", "masks")
            np.testing.assert_array_equal(now[each], array[:, :most] if padded else array, each)
        assert (was["labels"][:, most:] == -1).all()


def test_pycocotools_reads_what_was_written(tmp_path, capsys):
    from pycocotools.coco import COCO

    source = data.subset(data.load("scenes:32/4", "test"), 4)
    file = data.export_coco(source, tmp_path)
    coco = COCO(str(file))
    for index in range(4):
        example = source[index]
        annotations = [each for each in coco.imgToAnns[index] if each["category_id"] <= 4]
        masks = np.stack([coco.annToMask(each) for each in annotations])
        np.testing.assert_array_equal(masks, example["masks"][: len(masks)])
    assert Path(json.loads(file.read_text())["images"][0]["file_name"]).name == "000000.png"
    assert "OpenMoji" in json.loads(file.read_text())["info"]["attribution"]


def test_only_sources_with_boxes_are_written(tmp_path):
    with pytest.raises(InputError, match="no boxes"):
        data.export_coco(data.load("digits", "test"), tmp_path)
