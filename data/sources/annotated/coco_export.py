"""Writes any source with boxes as COCO annotations, which `coco.load` and other programs read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ....errors import InputError, writing
from ..source import Source
from .rle import run_lengths


def export_coco(source: Source, folder: Path) -> Path:
    """Writes a split as <folder>/<split>.json and PNG files in <folder>/images/<split>/.

    Masks are written as run lengths, compressed by pycocotools. The category of label k has the id k + 1. Where
    examples have a semantic map, each class of stuff is an annotation of its own, with "isthing": 0 at its category.

    Args:
      source: a split whose examples have "image", "boxes", "labels" and "crowd", and perhaps "masks" and "semantic".
      folder: is made if it is not there; the other splits can go into the same one.
    Returns: the path of the JSON file, for `coco:`.
    Raises: InputError for a source without boxes, or if a file can't be written.
    """
    lacking = [name for name in ("image", "boxes", "labels", "crowd") if name not in source.element_spec]
    if lacking:
        raise InputError(f"{source.name} can't be written as COCO annotations: its examples have no {lacking[0]}.")
    file, images, annotations = Path(folder) / f"{source.split}.json", [], []
    is_thing = source.is_thing or (True,) * len(source.classes)
    with writing(folder):
        (file.parent / "images" / source.split).mkdir(parents=True, exist_ok=True)
        for index in range(len(source)):
            example, name = source[index], f"images/{source.split}/{index:06}.png"
            image = example["image"]
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file.parent / name)
            images.append({"id": index, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
            for each in _annotations(example, is_thing):
                annotations.append({"id": len(annotations) + 1, "image_id": index, **each})
        categories = [
            {"id": label + 1, "name": name, "isthing": int(thing)}
            for label, (name, thing) in enumerate(zip(source.classes, is_thing, strict=True))
        ]
        info = {"description": f"{source.name} {source.split}", "attribution": source.attribution}
        content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
        file.write_text(json.dumps(content), encoding="utf-8")
    return file


def _annotations(example: Mapping[str, np.ndarray], is_thing: tuple[bool, ...]) -> Iterator[dict]:
    for place in np.flatnonzero(example["labels"] >= 0):
        x0, y0, x1, y1 = map(float, example["boxes"][place])
        annotation = {
            "category_id": int(example["labels"][place]) + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": int(example["crowd"][place]),
        }
        if "masks" in example:
            mask = example["masks"][place]
            annotation |= {"segmentation": run_lengths(mask), "area": int(mask.sum())}
        yield annotation
    for label in np.unique(example.get("semantic", np.array([-1]))):
        if label >= 0 and not is_thing[label]:
            mask = (example["semantic"] == label).astype(np.uint8)
            yield {
                "category_id": int(label) + 1,
                "segmentation": run_lengths(mask),
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
