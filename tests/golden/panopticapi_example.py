"""Makes panopticapi_example.npz: what panopticapi answers on its own published example.

Run by hand, with a clone of github.com/cocodataset/panopticapi (its commit 7bb4655):
`python panopticapi_example.py CLONE`. The example is the truth of two images of COCO 2017, 142238 and 439180, with
crowds and void (annotations: CC BY 4.0, COCO Consortium; panopticapi: BSD). It has no predictions. They are made here
from the truth: moved by some pixels, with some segments lost, merged, or of another class, and with guesses on void and
in crowds. Stored are, for each image, the number of the segment of each pixel (0 is void), and class and crowd of each
segment.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def predicted(ids, classes, crowd, rng):
    """Maps like the truth's, but wrong in many ways: ids [height, width] and the class of each."""
    names, labels = np.arange(len(classes)), classes.copy()
    for segment in range(1, len(classes)):
        fate = rng.integers(0, 10)
        if fate == 0:
            names[segment] = 0  # lost
        elif fate == 1:
            labels[segment] = labels[rng.integers(1, len(classes))]  # of another class
        elif fate == 2:
            names[segment] = rng.integers(1, len(classes))  # merged
    guess = np.roll(names[ids], rng.integers(-6, 7, 2), (0, 1))
    on_void = rng.uniform(size=ids.shape[0])[:, None] < 0.7  # rows
    labels = np.append(labels, [labels[1], classes[np.argmax(crowd)]])
    guess = np.where((ids == 0) & on_void, len(labels) - 2, guess)
    rows = np.arange(ids.shape[0])[:, None]
    guess = np.where((ids == np.argmax(crowd)) & (rows % 3 > 0), len(labels) - 1, guess)
    return guess.astype(np.uint8), labels


if __name__ == "__main__":
    clone = Path(sys.argv[1])
    sys.path.insert(0, str(clone))
    from panopticapi.evaluation import pq_compute
    from panopticapi.utils import id2rgb, rgb2id

    truth = json.loads((clone / "sample_data" / "panoptic_examples.json").read_text())
    rng = np.random.default_rng(0)
    golden = {
        "category_ids": np.array([each["id"] for each in truth["categories"]]),
        "is_thing": np.array([each["isthing"] == 1 for each in truth["categories"]]),
    }
    with tempfile.TemporaryDirectory() as folder:
        answers = []
        for index, annotation in enumerate(truth["annotations"]):
            image = Image.open(clone / "sample_data" / "panoptic_examples" / annotation["file_name"])
            segments = annotation["segments_info"]
            order = {each["id"]: number for number, each in enumerate(segments, 1)} | {0: 0}
            ids = np.vectorize(order.get, otypes=[np.uint8])(rgb2id(np.array(image, np.uint32)))
            classes = np.array([0, *(each["category_id"] for each in segments)])
            crowd = np.array([False, *(each["iscrowd"] == 1 for each in segments)])
            guess, labels = predicted(ids, classes, crowd, rng)
            Image.fromarray(id2rgb(guess.astype(np.uint32))).save(Path(folder) / annotation["file_name"])
            kept = [int(each) for each in np.unique(guess) if each]
            rows = [{"id": each, "category_id": int(labels[each])} for each in kept]
            answers.append(annotation | {"segments_info": rows})
            golden |= {f"true_{index}": ids, f"true_classes_{index}": classes, f"crowd_{index}": crowd}
            golden |= {f"predicted_{index}": guess, f"predicted_classes_{index}": labels}
        (Path(folder) / "answers.json").write_text(json.dumps({"annotations": answers}))
        results = pq_compute(
            str(clone / "sample_data" / "panoptic_examples.json"), f"{folder}/answers.json", pred_folder=folder
        )
    for name in ("All", "Things", "Stuff"):
        golden[name] = np.array([results[name][key] for key in ("pq", "sq", "rq", "n")])
    rows = [results["per_class"][number] for number in golden["category_ids"]]
    golden["per_class"] = np.array([[row[key] for key in ("pq", "sq", "rq")] for row in rows])
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
