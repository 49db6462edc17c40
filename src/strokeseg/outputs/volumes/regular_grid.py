"""The scan and its lesions on one regular orthogonal grid, as volume formats need it; LPS mm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging.components import Labels
from strokeseg.scan import Floats, Planes, Scan

_AIR_HU = -1024
_REGULAR_TOLERANCE_MM = 0.05


@dataclass(frozen=True)
class _GridSlice:
    """A slice of the regular grid, interpolated between the planes ``low`` and ``low + 1``.

    ``fraction`` is its position between the two; ``row`` and ``column`` are the position of its first pixel on the
    grid, in pixels.
    """

    low: int
    fraction: float
    row: float
    column: float


@dataclass(frozen=True)
class ResampledCt:
    """A CT on a regular grid, int16, that yields its slices on iteration, any number of times.

    Attributes
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units on the planes as acquired.
    shape : tuple of (int, int, int)
        (slices, rows, columns) of the grid.
    planes : tuple of _GridSlice or None
        One per slice of the grid; None in a gap of missing slices, which is filled with air.
    """

    hu: NDArray[np.int16]
    shape: tuple[int, int, int]
    planes: tuple[_GridSlice | None, ...]
    dtype: ClassVar[np.dtype[np.int16]] = np.dtype(np.int16)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        for plane in self.planes:
            if plane is None:
                yield np.full(self.shape[1:], _AIR_HU, dtype=np.int16)
                continue
            low, fraction = plane.low, np.float32(plane.fraction)
            blend = self.hu[low] * np.float32(1 - plane.fraction) + self.hu[low + 1] * fraction
            yield np.rint(_shift_plane(blend, plane.row, plane.column, self.shape[1:])).astype(np.int16)


class RegularVolume(NamedTuple):
    """CT and lesions on one regular grid.

    A resampled CT is computed slice by slice during iteration; the whole volume never exists in memory.

    Attributes
    ----------
    hu : ndarray of int16, shape (slices, rows, columns), or ResampledCt
        Hounsfield units.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.
    affine : ndarray of float64, shape (4, 4)
        Maps (column, row, slice) to LPS mm.
    """

    hu: NDArray[np.int16] | ResampledCt
    labels: Labels
    affine: Floats


def make_regular(scan: Scan, labels: Labels) -> RegularVolume:
    """Put a scan and its lesions on one regular orthogonal grid.

    Planes that are regular already (equal steps along the normal, to 0.05 mm) stay unchanged. Otherwise the grid keeps
    the direction and size of the pixels, has the median gap as its step, and is large enough for every plane.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        On the grid of the scan; 0 is background, 1 the largest lesion.

    Returns
    -------
    RegularVolume
        Scan and lesions on the grid.
    """
    planes, affine = scan.planes, compute_native_affine(scan)
    if affine is not None:
        along = planes.normal * float(affine[:3, 2] @ planes.normal)
        shear_mm = np.linalg.norm(affine[:3, 2] - along) * (len(scan.hu) - 1)
        if shear_mm <= _REGULAR_TOLERANCE_MM:
            affine[:3, 2] = along
            return RegularVolume(scan.hu, labels, affine)
    return _resample(scan, labels)


def compute_native_affine(scan: Scan) -> Floats | None:
    """Return the affine of the planes as acquired: (column, row, slice) to LPS mm, sheared for a tilted gantry.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    ndarray of float64, shape (4, 4), or None
        None if the planes are not evenly spaced (to 0.05 mm): no affine can represent them.
    """
    planes = scan.planes
    if not scan.spacing_known:
        return _make_affine(np.zeros(3), planes, planes.normal, (1.0, 1.0))
    positions, count = planes.positions_mm, len(planes.positions_mm)
    if count == 1:
        return _make_affine(positions[0], planes, planes.normal * (planes.thickness_mm or 1.0), planes.pixel_spacing_mm)
    step = (positions[-1] - positions[0]) / (count - 1)
    if np.abs(positions - positions[0] - np.arange(count)[:, None] * step).max() > _REGULAR_TOLERANCE_MM:
        return None
    return _make_affine(positions[0], planes, step, planes.pixel_spacing_mm)


def _make_affine(origin_mm: Floats, planes: Planes, step_mm: Floats, spacing_mm: tuple[float, float]) -> Floats:
    """Return the affine (column, row, slice) to LPS mm; ``step_mm`` (3,) leads from slice to slice."""
    affine = np.eye(4)
    affine[:3, 0] = planes.row_cosine * spacing_mm[1]
    affine[:3, 1] = planes.column_cosine * spacing_mm[0]
    affine[:3, 2] = step_mm
    affine[:3, 3] = origin_mm
    return affine


def _resample(scan: Scan, labels: Labels) -> RegularVolume:
    """Resample tilted or unevenly spaced planes; a fractional slice lies between its neighbours, as in `to_lps_mm`.

    For each slice of the grid, the two planes around it are blended and then shifted within the plane to their
    position, linearly for the CT. The mask is shifted by whole pixels, so that its area on a plane does not change and
    an evenly spaced, tilted series keeps its volume exactly. The middle of a gap with missing slices stays empty, as
    in the measured volumes.
    """
    planes = scan.planes
    depth, row_mm, column_mm = planes.along_normal_mm, *planes.pixel_spacing_mm
    gaps = planes.gaps_mm
    step_mm = float(np.median(gaps))
    down = planes.positions_mm @ planes.column_cosine / row_mm  # first pixel of each plane, in pixels
    across = planes.positions_mm @ planes.row_cosine / column_mm
    first_row, first_column = down.min(), across.min()
    shape = (
        int(np.floor((depth[-1] - depth[0]) / step_mm + 0.5)) + 1,
        scan.shape[1] + int(np.ceil(down.max() - first_row - 1e-3)),
        scan.shape[2] + int(np.ceil(across.max() - first_column - 1e-3)),
    )
    resampled = np.zeros(shape, dtype=labels.dtype)
    slices: list[_GridSlice | None] = []
    reach_mm = planes.reach_mm
    for k in range(shape[0]):
        position = min(depth[0] + k * step_mm, depth[-1])
        low = int(np.clip(np.searchsorted(depth, position + 1e-6) - 1, 0, len(depth) - 2))
        fraction = float(np.clip((position - depth[low]) / gaps[low], 0, 1))
        if planes.gaps_with_missing_slices[low] and min(fraction, 1 - fraction) * gaps[low] > reach_mm:
            slices.append(None)
            continue
        row = (1 - fraction) * down[low] + fraction * down[low + 1] - first_row
        column = (1 - fraction) * across[low] + fraction * across[low + 1] - first_column
        slices.append(_GridSlice(low, fraction, row, column))
        plane = _interpolate_labels(labels[low], labels[low + 1], fraction)
        top, left = round(row), round(column)
        resampled[k, top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    origin = (
        planes.positions_mm[0]
        + (first_row - down[0]) * row_mm * planes.column_cosine
        + (first_column - across[0]) * column_mm * planes.row_cosine
    )
    hu = ResampledCt(scan.hu, shape, tuple(slices))
    return RegularVolume(hu, resampled, _make_affine(origin, planes, planes.normal * step_mm, planes.pixel_spacing_mm))


def _interpolate_labels(lower: Labels, upper: Labels, fraction: float) -> Labels:
    """Interpolate the lesions between two planes.

    The outline of components that overlap on both planes changes evenly (signed distances are blended: shape-based
    interpolation, Raya and Udupa, IEEE Trans Med Imaging 1990;9:32). Components on one plane only extend half the
    distance. Each pixel takes its label from the nearer plane, or from the other one if the nearer has none.
    """
    nearest, other = (lower, upper) if round(fraction) == 0 else (upper, lower)
    if not 1e-3 < fraction < 1 - 1e-3 or not lower.any() or not upper.any():
        return nearest
    return np.where(_interpolate_mask(lower > 0, upper > 0, fraction), np.where(nearest > 0, nearest, other), 0)


def _interpolate_mask(lower: NDArray[np.bool_], upper: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    both = np.stack([lower, upper])
    components, _ = ndimage.label(both)
    shared = both & np.isin(components, np.intersect1d(components[0], components[1])) & (components > 0)
    if not shared.any():
        return both[round(fraction)]
    rows, columns = (np.flatnonzero(shared.any(axes)) for axes in ((0, 2), (0, 1)))
    box = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    inside = [ndimage.distance_transform_edt(one[box]) - ndimage.distance_transform_edt(~one[box]) for one in shared]
    interpolated = both[round(fraction)] & ~shared[round(fraction)]
    interpolated[box] |= (1 - fraction) * inside[0] + fraction * inside[1] > 0
    return np.asarray(interpolated)


def _shift_plane(plane: NDArray[np.float32], row: float, column: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Place a plane into a larger one of air, its first pixel at (row, column) >= 0, linearly interpolated."""
    top, left = int(row + 1e-6), int(column + 1e-6)
    down, right = max(row - top, 0.0), max(column - left, 0.0)
    padded = np.pad(plane, 1, constant_values=_AIR_HU)
    for axis, fraction in ((0, down), (1, right)):
        if fraction > 1e-3:
            padded = padded * np.float32(1 - fraction) + np.roll(padded, 1, axis) * np.float32(fraction)
    target = np.full((shape[0] + 2, shape[1] + 2), _AIR_HU, dtype=np.float32)
    height, width = min(padded.shape[0], target.shape[0] - top), min(padded.shape[1], target.shape[1] - left)
    target[top : top + height, left : left + width] = padded[:height, :width]
    return target[1:-1, 1:-1]
