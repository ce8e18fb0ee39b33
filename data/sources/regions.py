"""Connected regions of a semantic map, as one more array of every example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import numpy as np

from ...errors import InputError
from .source import Records, Source


def with_regions(source: Source, background: int = 0) -> Source:
    """The same examples with "regions" int32 [height, width] besides: which connected region a pixel is in.

    Pixels of one class that touch along a side are one region. Regions are numbered from 1 on; pixels of the background
    and those without a class are 0. They are found when an example is read.

    Args:
      source: a split whose examples have "semantic" [height, width].
      background: the class whose pixels are in no region, such as the membranes between cells.
    Raises: InputError if the examples have no semantic map.
    """
    if "semantic" not in source.element_spec:
        raise InputError(f"Examples of {source.name} have no classes of pixels, whose regions there could be.")
    spec = jax.ShapeDtypeStruct(source.element_spec["semantic"].shape, np.int32)
    records = _WithRegions(source.records, background)
    return replace(source, records=records, element_spec={**source.element_spec, "regions": spec})


@dataclass(frozen=True)
class _WithRegions:
    records: Records
    background: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        example = self.records[index]
        return {**example, "regions": _regions(example["semantic"], self.background)}


def _regions(semantic: np.ndarray, background: int) -> np.ndarray:
    from scipy import ndimage  # it takes half a second to import

    numbers, count = np.zeros(semantic.shape, np.int32), 0
    for label in np.unique(semantic):
        if label >= 0 and label != background:
            found = np.zeros(semantic.shape, np.int32)
            ndimage.label(semantic == label, output=found)
            numbers = np.where(found > 0, found + count, numbers)
            count = int(numbers.max())
    return numbers.astype(np.int32)
