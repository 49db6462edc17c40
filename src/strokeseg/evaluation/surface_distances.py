"""Distances between the surfaces of the annotated and the predicted mask, in mm.

The definitions are those of DeepMind's surface-distance (Nikolov et al., arXiv:1809.04430; J Med Internet Res 2021;
23:e26151): the surface runs between the voxels, through the corners at which eight voxels meet that are not all equal;
a corner's weight is the area of the marching-cubes triangles there. Other packages use the border voxels instead and
differ by up to a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Spacing = tuple[float, float, float]

TOLERANCE_MM = 2.0
_PERCENTILE = 0.95


@dataclass(frozen=True)
class SurfaceDistances:
    """Two surfaces and their distances.

    Attributes
    ----------
    truth_mm, predicted_mm : ndarray of float, shape (surface elements,)
        Distance of each element to the other surface, mm; infinite if that is empty.
    truth_mm2, predicted_mm2 : ndarray of float, shape (surface elements,)
        Area of each element, mm².
    diagonal_mm : float
        Diagonal of the volume, mm: the longest possible distance.
    """

    truth_mm: Floats
    predicted_mm: Floats
    truth_mm2: Floats
    predicted_mm2: Floats
    diagonal_mm: float

    @classmethod
    def from_masks(cls, truth: ArrayLike, prediction: ArrayLike, spacing_mm: Spacing) -> SurfaceDistances:
        """Measure the distances between two masks.

        Parameters
        ----------
        truth, prediction : array_like of bool, shape (slices, rows, columns)
            Annotated and predicted blood.
        spacing_mm : tuple of float
            (slice, row, column), mm.

        Returns
        -------
        SurfaceDistances
            The distances.

        Raises
        ------
        ValueError
            If the shapes differ or are not three-dimensional.
        """
        blood, predicted = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
        if blood.shape != predicted.shape or blood.ndim != 3:
            raise ValueError(
                f"truth is {blood.shape}, prediction is {predicted.shape}; both need one three-dimensional shape"
            )
        diagonal_mm = float(np.linalg.norm(np.array(blood.shape) * spacing_mm))
        box = _bounding_box(blood | predicted)
        corners = [_corner_codes(blood[box]), _corner_codes(predicted[box])]
        borders = [(each > 0) & (each < 255) for each in corners]
        areas = _areas_mm2(tuple(spacing_mm))
        mm = [
            _distances_mm(borders[1], borders[0], spacing_mm),
            _distances_mm(borders[0], borders[1], spacing_mm),
        ]
        mm2 = [areas[each[border]] for each, border in zip(corners, borders, strict=True)]
        return cls(mm[0], mm[1], mm2[0], mm2[1], diagonal_mm)


def hd95_mm(surfaces: SurfaceDistances) -> float:
    """95 % Hausdorff distance = max over both surfaces of the 95th percentile, by area, of the distances to the other.

    Both masks empty: NaN. One of them empty: the diagonal of the volume, its largest distance, so that an empty mask
    costs more than any other (surface-distance returns infinity, which would make every mean infinite).
    """
    if not len(surfaces.truth_mm) and not len(surfaces.predicted_mm):
        return float("nan")
    if not len(surfaces.truth_mm) or not len(surfaces.predicted_mm):
        return surfaces.diagonal_mm
    sides = ((surfaces.truth_mm, surfaces.truth_mm2), (surfaces.predicted_mm, surfaces.predicted_mm2))
    return max(_percentile(mm, mm2) for mm, mm2 in sides)


def surface_dice(surfaces: SurfaceDistances, tolerance_mm: float = TOLERANCE_MM) -> float:
    """Surface Dice = share of both surfaces' area that lies within the tolerance of the other surface.

    Both masks empty: NaN. One of them empty: 0.0.
    """
    total = surfaces.truth_mm2.sum() + surfaces.predicted_mm2.sum()
    if total == 0:
        return float("nan")
    near = surfaces.truth_mm2[surfaces.truth_mm <= tolerance_mm].sum()
    near += surfaces.predicted_mm2[surfaces.predicted_mm <= tolerance_mm].sum()
    return float(near / total)


def _percentile(mm: Floats, mm2: Floats) -> float:
    order = np.argsort(mm)
    share = np.cumsum(mm2[order]) / mm2.sum()
    return float(mm[order][min(int(np.searchsorted(share, _PERCENTILE)), len(mm) - 1)])


def _bounding_box(mask: Bools) -> tuple[slice, ...]:
    if not mask.any():
        return (slice(0, 0),) * 3
    return tuple(ndimage.find_objects(mask.astype(np.uint8))[0])


def _corner_codes(mask: Bools) -> NDArray[np.uint8]:
    """Code which of the eight voxels at each corner are inside, one bit each; n + 1 corners along an axis of n."""
    padded = np.pad(mask, 1).astype(np.uint8)
    shape = tuple(length - 1 for length in padded.shape)
    code = np.zeros(shape, dtype=np.uint8)
    for bit, offset in enumerate(np.ndindex(2, 2, 2)):
        window = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
        code |= padded[window] << np.uint8(7 - bit)
    return code


def _distances_mm(to: Bools, of: Bools, spacing_mm: Spacing) -> Floats:
    if not to.any():
        return np.full(np.count_nonzero(of), np.inf)
    if not of.any():
        return np.zeros(0)
    distances: Floats = ndimage.distance_transform_edt(~to, sampling=spacing_mm)
    return distances[of]


@cache
def _areas_mm2(spacing_mm: tuple[float, ...]) -> Floats:
    """Compute the area of the surface at a corner for each of the 256 codes.

    With up to four voxels inside it is that of Lorensen and Cline's triangles (1987); with more, that of the outside.
    """
    from skimage.measure import marching_cubes, mesh_surface_area

    areas = np.zeros(256)
    for code in range(1, 255):
        if code.bit_count() <= 4:
            inside: NDArray[Any] = np.array([code >> (7 - bit) & 1 for bit in range(8)], dtype=float).reshape(2, 2, 2)
            points, triangles, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
                inside, 0.5, spacing=spacing_mm, method="lorensen"
            )
            areas[code] = mesh_surface_area(points, triangles)  # type: ignore[no-untyped-call]
            if code.bit_count() < 4:
                areas[255 - code] = areas[code]
    return areas
