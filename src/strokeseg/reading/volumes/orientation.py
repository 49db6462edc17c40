"""Orient the voxels of NIfTI, NRRD or MetaImage as a scan: axes are only reordered and reversed."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NoHounsfield, UnreadableFile
from strokeseg.result import Remark
from strokeseg.scan import Floats, Planes, Scan

_AIR_HU = -1024
_MAX_THICKNESS_MM = 10.0


def orient_volume(
    values: NDArray[Any],
    affine: Floats,
    name: str,
    kind: str,
    *,
    oriented: bool,
    scale: tuple[float, float] = (1.0, 0.0),
) -> Scan:
    """Make a scan of a volume.

    The voxel axis nearest to the patient's long axis becomes the slice axis, the one nearest to front-back the row
    axis. A sheared affine is kept: it gives the planes of a tilted series.

    Parameters
    ----------
    values : ndarray
        The voxels in the file's own axes; further axes of length 1 are dropped.
    affine : ndarray of float64, shape (4, 4)
        Maps indices, in the order of these axes, to LPS mm.
    name : str
        Name of the file, for error messages.
    kind : str
        Kind of the scan, as in :class:`~strokeseg.scan.Scan`.
    oriented : bool
        Whether the file states the orientation; if not, left and right are unknown.
    scale : tuple of (float, float), default (1.0, 0.0)
        Slope and intercept that convert the values to Hounsfield units.

    Returns
    -------
    Scan
        The scan, not yet checked by the gate.

    Raises
    ------
    UnreadableFile, InconsistentGeometry, NoHounsfield
        `unreadable`, if the values are not a single volume of grey values; `geometry`, `no-hounsfield`.
    """
    values = _drop_singleton_axes(values, name)
    axes, flips = _choose_axes(affine[:3, :3], name)
    for axis, is_reversed in zip(axes, flips, strict=True):
        if is_reversed:
            affine = affine.copy()
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    values = np.transpose(values, axes)
    slice_step, row_step, column_step = (affine[:3, axis] for axis in axes)
    planes = _make_planes(slice_step, row_step, column_step, affine[:3, 3], len(values), name)
    hu, remarks = _to_hounsfield(values, scale, name)
    if not oriented:
        message = "The file states no orientation: left and right are not known."
        remarks.append(Remark(code="no-orientation", severity="warning", message=message))
    return Scan(hu, planes, kind=kind, remarks=tuple(remarks))


def _drop_singleton_axes(values: NDArray[Any], name: str) -> NDArray[Any]:
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.size == 0 or values.dtype.kind not in "iuf":
        raise UnreadableFile(
            f"{name}: {values.shape} of {values.dtype} is not a single volume of grey values", "Give one 3D volume."
        )
    return values


def _choose_axes(matrix: Floats, name: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Choose the voxel axes that become slice, row and column, and which of them are reversed."""
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or (lengths < 1e-6).any() or abs(np.linalg.det(matrix / lengths)) < 0.05:
        raise InconsistentGeometry(f"{name}: the affine does not span a volume", "Correct the header's affine.")
    unit = matrix / lengths
    best = max(permutations(range(3)), key=lambda p: abs(unit[2, p[0]]) + abs(unit[1, p[1]]) + abs(unit[0, p[2]]))
    flips = (unit[2, best[0]] < 0, unit[1, best[1]] < 0, unit[0, best[2]] < 0)
    return (best[0], best[1], best[2]), (bool(flips[0]), bool(flips[1]), bool(flips[2]))


def _make_planes(
    slice_step: Floats, row_step: Floats, column_step: Floats, origin: Floats, count: int, name: str
) -> Planes:
    """Make the planes of ``count`` slices from the vectors (LPS mm) between neighbouring slices, rows and columns."""
    if abs(row_step @ column_step) > 0.01 * np.linalg.norm(row_step) * np.linalg.norm(column_step):
        raise InconsistentGeometry(f"{name}: rows and columns are not at right angles", "Resample the volume.")
    positions = origin + np.arange(count)[:, None] * slice_step
    row_mm, column_mm = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    column_cosine, row_cosine = row_step / row_mm, column_step / column_mm
    thickness_mm = abs(float(slice_step @ np.cross(row_cosine, column_cosine)))
    # A volume states no thickness, only the step: of a few slices far apart it is not their thickness.
    stated_mm = thickness_mm if count == 1 or thickness_mm <= _MAX_THICKNESS_MM else None
    return Planes(positions, row_cosine, column_cosine, (row_mm, column_mm), stated_mm)


def _to_hounsfield(
    values: NDArray[Any], scale: tuple[float, float], name: str
) -> tuple[NDArray[np.int16], list[Remark]]:
    """Scale, clip and round slice by slice: scaled floats of a whole volume would need four times its memory."""
    hu = np.empty(values.shape, np.int16)
    slope, intercept = scale
    invalid_count, low, high = 0, np.inf, -np.inf
    for plane, hu_plane in zip(values, hu, strict=True):
        if scale != (1.0, 0.0):
            plane = plane * np.float64(slope) + intercept
        if plane.dtype.kind == "f":
            finite = np.isfinite(plane)
            invalid_count += plane.size - int(np.count_nonzero(finite))
            plane = np.where(finite, plane, _AIR_HU)
        low, high = min(low, float(plane.min())), max(high, float(plane.max()))
        if plane.dtype.kind == "f":
            plane = np.rint(plane)
        hu_plane[...] = np.clip(plane, -32768, 32767)
    if invalid_count > values.size // 2:
        raise NoHounsfield(f"{name}: {invalid_count / values.size:.0%} of the values are not finite")
    if low >= 0 and high <= 1.5:
        raise NoHounsfield(f"{name}: values lie between {low:.2g} and {high:.2g}: a mask or a scaled picture")
    if not invalid_count:
        return hu, []
    message = f"{invalid_count} values were not finite; they were set to air."
    return hu, [Remark(code="no-numbers", severity="repaired", message=message)]
