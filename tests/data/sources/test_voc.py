"""Pascal VOC annotations: read as they are meant, or refused with the file and the number of the object."""

import numpy as np
import pytest
from etude import data
from etude.errors import InputError, MissingFile
from PIL import Image


def an_object(name="cat", corners=(2, 1, 5, 4), difficult=0):
    box = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


@pytest.fixture
def write(tmp_path):
    """({stem: objects as XML}, {list: stems}) -> name of the set; images are 8×6."""

    def write(annotations, lists=None, size=("8", "6")):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem, objects in annotations.items():
            Image.new("RGB", (8, 6)).save(tmp_path / f"JPEGImages/{stem}.jpg")
            stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
            (tmp_path / f"Annotations/{stem}.xml").write_text(f"<annotation>{stated}{objects}</annotation>")
        for each, stems in (lists or {}).items():
            (tmp_path / f"ImageSets/Main/{each}.txt").write_text("\n".join(stems) + "\n")
        return f"voc:{tmp_path}"

    return write


LISTS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_boxes_labels_and_difficult_objects_are_read(write):
    objects = an_object() + an_object("ant", (1, 1, 8, 6), 1) + an_object("cat", (0, 2, 12.5, 4))
    name = write({"a": objects, "b": "", "c": an_object("dog"), "d": ""}, LISTS)
    source = data.load(name, "train")
    assert source.classes == ("ant", "cat", "dog")
    first, second = source[0], source[1]
    # The pixels xmin … xmax, counted from 1; cut at the image.
    assert first["boxes"].tolist() == [[1, 0, 5, 4], [0, 0, 8, 6], [0, 1, 8, 4]]
    assert first["labels"].tolist() == [1, 0, 1]
    assert first["crowd"].tolist() == [False, True, False]
    assert second["labels"].tolist() == [-1, -1, -1]
    assert data.load(name, "validation")[0]["labels"].tolist() == [2, -1, -1]


def test_splits_are_the_lists_or_else_carved(write):
    name = write({stem: an_object() for stem in "abcde"}, LISTS)
    assert [len(data.load(name, split)) for split in ("train", "validation", "test")] == [2, 1, 1]
    assert "1 annotated images (e)" in data.load(name, "train").notes[0]


def test_without_lists_annotations_are_carved(write):
    name = write({f"{i:02}": an_object() for i in range(20)})
    lengths = [len(data.load(name, split)) for split in ("train", "validation", "test")]
    assert sum(lengths) == 20
    assert min(lengths) >= 1


def test_a_folder_around_the_only_set_may_be_named(write, tmp_path):
    write({stem: an_object() for stem in "abcd"}, LISTS)
    (tmp_path / "kit" / "VOC2012").mkdir(parents=True)
    for each in ("Annotations", "JPEGImages", "ImageSets"):
        (tmp_path / each).rename(tmp_path / "kit" / "VOC2012" / each)
    assert data.load(f"voc:{tmp_path / 'kit'}", "test").classes == ("cat",)


def test_boxes_without_area_are_left_out_and_named(write):
    objects = an_object() + an_object(corners=(3, 3, 3, 5)) + an_object("fly", (20, 1, 30, 4))
    source = data.load(write({"a": objects, "b": "", "c": "", "d": ""}, LISTS), "train")
    assert source[0]["labels"].tolist() == [0]
    assert source.classes == ("cat",)
    assert "a.xml object 2, a.xml object 3" in source.notes[0]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("<object></object>", "Object 1 of .*a.xml has no name"),
        (an_object() + "<object><name>x</name></object>", "Object 2 of .*a.xml.*xmin is None"),
        (an_object(corners=(1, 1, "nan", 3)), "Object 1 of .*xmax is 'nan'"),
        ("<object>", "a.xml is no XML"),
    ],
)
def test_a_wrong_annotation_is_refused(write, objects, message):
    with pytest.raises(InputError, match=message):
        data.load(write({"a": objects, "b": "", "c": "", "d": ""}, LISTS), "train")


def test_sizes_that_disagree_are_refused(write):
    with pytest.raises(InputError, match="9×6 there, its file 8×6"):
        data.load(write({stem: an_object() for stem in "abcd"}, LISTS, ("9", "6")), "train")


def test_what_is_missing_or_named_twice_is_refused(write, tmp_path):
    name = write({stem: an_object() for stem in "abcd"}, LISTS | {"val": ["c", "a"]})
    with pytest.raises(InputError, match="more than once: a"):
        data.load(name, "train")
    write({}, LISTS | {"val": ["c", "x"]})
    with pytest.raises(MissingFile, match=r"1 annotations are not in .*: x"):
        data.load(name, "train")
    write({}, LISTS)
    (tmp_path / "JPEGImages/b.jpg").unlink()
    with pytest.raises(MissingFile, match="no image b"):
        data.load(name, "train")
    with pytest.raises(MissingFile, match="no folder"):
        data.load("voc:/nowhere", "train")
    with pytest.raises(InputError, match="no Annotations/"):
        data.load(f"voc:{tmp_path / 'JPEGImages'}", "train")


def test_blood_cells_are_read_by_their_own_splits(real_data, tmp_path):
    path = real_data("bccd", "github.com/Shenggan/BCCD_Dataset")
    splits, options = ("train", "validation", "test"), {"image_size": 128, "memory": tmp_path}
    sources = {split: data.load(f"voc:{path}", split, **options) for split in splits}
    assert [len(source) for source in sources.values()] == [205, 87, 72]
    assert sources["train"].classes == ("Platelets", "RBC", "WBC")
    labels = np.concatenate([data.select(source, ["labels"]).arrays()["labels"] for source in sources.values()])
    assert np.bincount(labels[labels >= 0]).tolist() == [361, 4153, 372]  # two RBC boxes have no area
    boxes = sources["test"][0]["boxes"]
    assert boxes.min() >= 0
    assert boxes[:, 1::2].max() <= 112  # 640×480 in 128×96, with 16 rows above and below
