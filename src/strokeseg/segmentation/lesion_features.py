"""What speaks for and against a candidate lesion: features for the second look."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import components
from strokeseg.imaging.brain_mask import BrainRegion
from strokeseg.imaging.components import BoundingBox, Labels
from strokeseg.scan import Scan

BLURRED_MM, RING_MM = 2.0, 5.0
"""The surroundings of a lesion lie 2 to 5 mm away on its slices; the first 2 mm are blurred."""

_TWIN_MM = 7.5
_MIN_TWIN_MM = 12.0
_FLUID_HU = 10.0
_BONE_HU = 130.0
_SOFT_HU = 30.0

FEATURES = (
    "log_volume",
    "mean_probability",
    "top_probability",
    "slices",
    "thickness_mm",
    "contrast_hu",
    "top_contrast_hu",
    "bone_share",
    "fluid_share",
    "depth_mm",
    "height",
    "lateral",
    "front",
    "twin",
)
"""In the order of :func:`measure_candidates`:

- ``log_volume``: decimal logarithm of the volume, ml.
- ``mean_probability``, ``top_probability``: of the network, over the pixels.
- ``slices``: number of slices that it lies on.
- ``thickness_mm``: diameter of the largest circle in it on any slice.
- ``contrast_hu``, ``top_contrast_hu``: its median, and its densest tenth, above the median of the soft tissue around.
- ``bone_share``, ``fluid_share``: share of bone, and of fluid, fat or air, in its surroundings.
- ``depth_mm``: mean distance to the border of the brain.
- ``height``: position between the lowest (0) and the highest (1) slice of the brain.
- ``lateral``, ``front``: distance from the middle of the brain (0) to its side (1), and position between its front (0)
  and its back (1), on its middle slice.
- ``twin``: mean over its pixels of the highest probability near the mirrored position; 0 near the middle. Bone, choroid
  plexus and tentorium look alike on both sides, most bleeds do not.
"""


@dataclass(frozen=True)
class Candidate:
    """A candidate lesion.

    Attributes
    ----------
    number : int
        Its number in the labels.
    features : dict of str to float
        Values of the measured :data:`FEATURES`.
    """

    number: int
    features: dict[str, float]


def measure_candidates(
    labels: Labels,
    numbers: NDArray[np.intp],
    probability: NDArray[np.float16],
    scan: Scan,
    region: BrainRegion | None,
    names: Collection[str] = FEATURES,
) -> list[Candidate]:
    """Measure the features of candidate lesions.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Numbered components.
    numbers : ndarray of intp, shape (n,)
        The components to measure.
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability map.
    scan : Scan
        The scan, with a spacing, which may be nominal.
    region : BrainRegion or None
        Its brain; without one, a candidate counts as in the middle of everything.
    names : collection of str, optional
        Features to measure; all by default.

    Returns
    -------
    list of Candidate
        In the order of ``numbers``.
    """
    boxes = components.find_bounding_boxes(labels)
    twins, wanted = _TwinProbability(probability, scan), set(names)
    found = []
    for number in numbers:
        box = boxes[number - 1]
        assert box is not None
        values = dict(zip(_INSIDE, _measure_inside(labels, number, box, probability, scan), strict=True))
        if wanted.intersection(_AROUND):
            values |= zip(_AROUND, _measure_surroundings(labels, number, box, scan), strict=True)
        if wanted.intersection(_PLACE):
            values |= zip(_PLACE, _measure_place(labels, number, box, region, twins, scan), strict=True)
        found.append(Candidate(int(number), {name: float(values[name]) for name in FEATURES if name in wanted}))
    return found


_INSIDE = ("log_volume", "mean_probability", "top_probability", "slices")
_AROUND = ("thickness_mm", "contrast_hu", "top_contrast_hu", "bone_share", "fluid_share")
_PLACE = ("depth_mm", "height", "lateral", "front", "twin")


def _measure_inside(
    labels: Labels, number: int, box: BoundingBox, probability: NDArray[np.float16], scan: Scan
) -> tuple[float, ...]:
    component = labels[box] == number
    pixels = component.sum((1, 2))
    volume_ml = float(pixels @ scan.planes.weights_mm[box[0]]) * scan.planes.pixel_area_mm2 / 1000
    values = probability[box][component].astype(np.float32)
    return float(np.log10(max(volume_ml, 1e-4))), float(values.mean()), float(values.max()), int((pixels > 0).sum())


def _measure_surroundings(labels: Labels, number: int, box: BoundingBox, scan: Scan) -> tuple[float, ...]:
    slices, rows, columns = box
    spacing = scan.planes.pixel_spacing_mm
    reach = [int(np.ceil(RING_MM / mm)) + 1 for mm in spacing]
    wide = (
        slice(max(0, rows.start - reach[0]), rows.stop + reach[0]),
        slice(max(0, columns.start - reach[1]), columns.stop + reach[1]),
    )
    around, thickness = [], 0.0
    for index in range(slices.start, slices.stop):
        component = labels[index][wide] == number
        if component.any():
            outside_mm = ndimage.distance_transform_edt(~component, sampling=spacing)
            around.append(scan.hu[index][wide][(outside_mm > BLURRED_MM) & (outside_mm <= RING_MM)])
            inside_mm = ndimage.distance_transform_edt(np.pad(component, 1), sampling=spacing)
            thickness = max(thickness, 2 * float(inside_mm.max()))
    ring, inside = np.concatenate(around), scan.hu[box][labels[box] == number]
    bone_hu = _BONE_HU if scan.window is None else min(_BONE_HU, scan.window[0] + 0.4 * scan.window[1])
    soft = ring[(ring > 0) & (ring < bone_hu)]
    usual = float(np.median(soft)) if soft.size else _SOFT_HU
    shares = (float((ring >= bone_hu).mean()), float((ring < _FLUID_HU).mean())) if ring.size else (0.0, 0.0)
    contrasts = (float(np.median(inside)) - usual, float(np.percentile(inside, 90)) - usual)
    return thickness, *np.clip(contrasts, -30, 60).tolist(), *shares


def _measure_place(
    labels: Labels, number: int, box: BoundingBox, region: BrainRegion | None, twins: _TwinProbability, scan: Scan
) -> tuple[float, ...]:
    indices = np.argwhere(labels[box] == number) + [side.start for side in box]
    if region is None:
        return 0.0, 0.5, 0.5, 0.5, 0.0
    slices, rows, columns = region.find_samples(np.ravel_multi_index(tuple(indices.T), labels.shape))
    distances = np.maximum(region.distance_mm[slices, rows, columns], -50)
    occupied = np.flatnonzero(region.brain.any((1, 2)))
    height = (slices.mean() - occupied[0]) / max(1, occupied[-1] - occupied[0])
    middle = region.brain[int(np.rint(slices.mean()))]
    brain_rows, brain_columns = np.nonzero(middle if middle.any() else region.brain.any(0))
    centre, half = (brain_columns.min() + brain_columns.max()) / 2, np.ptp(brain_columns) / 2
    lateral = abs(columns.mean() - centre) / max(half, 1.0)
    front = (rows.mean() - brain_rows.min()) / max(1, np.ptp(brain_rows))
    # On images as acquired the face may be down, or the first slice the highest.
    front = 1 - front if scan.planes.column_cosine[1] < 0 else front
    height = 1 - height if scan.planes.normal[2] < 0 else height
    step = region.samples.pixel_step
    offset_mm = abs(columns.mean() - centre) * region.samples.spacing_mm[1]
    twin = twins.read(indices, centre * step + (step - 1) / 2) if offset_mm >= _MIN_TWIN_MM else 0.0
    return float(distances.mean()), float(height), float(lateral), float(front), twin


class _TwinProbability:
    """The highest probability near a pixel's mirror image, computed slice by slice when it is first asked for."""

    def __init__(self, probability: NDArray[np.float16], scan: Scan) -> None:
        self._probability = probability
        self._step = max(1, round(1.0 / max(scan.planes.pixel_spacing_mm)))
        self._size = 2 * max(1, round(_TWIN_MM / (max(scan.planes.pixel_spacing_mm) * self._step))) + 1
        self._planes: dict[int, NDArray[np.float32]] = {}

    def read(self, indices: NDArray[np.intp], middle: float) -> float:
        """Average over pixels (slice, row, column), shape (n, 3), mirrored at a column."""
        mirrored = np.clip(np.rint(2 * middle - indices[:, 2]).astype(np.intp), 0, self._probability.shape[2] - 1)
        total = 0.0
        for index in np.unique(indices[:, 0]):
            here = indices[:, 0] == index
            total += float(self._plane(int(index))[indices[here, 1] // self._step, mirrored[here] // self._step].sum())
        return total / len(indices)

    def _plane(self, index: int) -> NDArray[np.float32]:
        if index not in self._planes:
            coarse = self._probability[index, :: self._step, :: self._step].astype(np.float32)
            self._planes[index] = ndimage.maximum_filter(coarse, size=self._size)
        return self._planes[index]
