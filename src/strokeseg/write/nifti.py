"""Mask and CT as NIfTI volumes on one regular orthogonal grid; the only writer that knows RAS."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Floats, Planes, Scan

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AIR_HU = -1024
_STILL_REGULAR_MM = 0.05
_GZIP_LEVEL = 1


class Volume(NamedTuple):
    """CT and mask on one regular orthogonal grid.

    ``hu`` int16 and ``mask`` bool are (slices, rows, columns); ``affine`` (4, 4) maps (column, row, slice) to LPS mm.
    """

    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    affine: Floats


def save(folder: Path, scan: Scan, mask: NDArray[np.bool_]) -> dict[str, str]:
    """Write `mask.nii.gz` (uint8, 0 or 1) and `ct.nii.gz` (int16, Hounsfield units).

    Where the spacing is not known a voxel measures 1 without a unit, and the header's description says so.

    Parameters
    ----------
    mask : bool, (slices, rows, columns), on the scan's grid

    Returns
    -------
    The names of the files
    """
    volume = regular(scan, mask)
    said = "" if scan.spacing_known else "; voxel size unknown, not to scale"
    values = "Hounsfield units" if scan.calibrated else "not Hounsfield units"
    _write(folder / "mask.nii.gz", volume.mask.astype(np.uint8), volume.affine, scan, f"1 = hemorrhage{said}")
    _write(folder / "ct.nii.gz", volume.hu, volume.affine, scan, f"{values}{said}")
    return {"mask": "mask.nii.gz", "ct": "ct.nii.gz"}


def regular(scan: Scan, mask: NDArray[np.bool_]) -> Volume:
    """Put a scan and its mask on one regular orthogonal grid.

    Planes that are regular already (even steps along the normal, to 0.05 mm) stay as they are. Otherwise the grid keeps
    the pixels' directions and size and takes the median gap as its step; it is wide enough for every plane.
    """
    planes = scan.planes
    if not scan.spacing_known:
        return Volume(scan.hu, mask, _affine(np.zeros(3), planes, 1.0, (1.0, 1.0)))
    positions, count = planes.positions_mm, len(planes.positions_mm)
    if count == 1:
        return Volume(scan.hu, mask, _affine(positions[0], planes, planes.thickness_mm or 1.0, planes.pixel_spacing_mm))
    step_mm = float((positions[-1] - positions[0]) @ planes.normal) / (count - 1)
    ideal = positions[0] + np.arange(count)[:, None] * step_mm * planes.normal
    if np.abs(positions - ideal).max() <= _STILL_REGULAR_MM:
        return Volume(scan.hu, mask, _affine(positions[0], planes, step_mm, planes.pixel_spacing_mm))
    return _resampled(scan, mask)


def _resampled(scan: Scan, mask: NDArray[np.bool_]) -> Volume:
    """Resample tilted or uneven planes; a fractional slice lies between its neighbours' planes, as in `to_lps_mm`.

    Per slice of the grid the two planes around it are blended, then moved within the plane to where they lie: linear
    for the CT. The mask is moved by whole pixels, so that its area on a plane never changes and an evenly stepped,
    tilted series keeps its volume exactly. The middle of a gap in which slices are missing stays empty, like in the
    volumes that are measured.
    """
    planes = scan.planes
    depth, row_mm, column_mm = planes.along_normal_mm, *planes.pixel_spacing_mm
    gaps = planes.gaps_mm
    step_mm = float(np.median(gaps))
    down = planes.positions_mm @ planes.column_cosine / row_mm  # each plane's first pixel, in pixels
    across = planes.positions_mm @ planes.row_cosine / column_mm
    first_row, first_column = down.min(), across.min()
    shape = (
        int(np.floor((depth[-1] - depth[0]) / step_mm + 0.5)) + 1,
        scan.shape[1] + int(np.ceil(down.max() - first_row - 1e-3)),
        scan.shape[2] + int(np.ceil(across.max() - first_column - 1e-3)),
    )
    hu, marked = np.full(shape, _AIR_HU, dtype=np.int16), np.zeros(shape, dtype=bool)
    reach_mm = 0.75 * float(np.median(gaps[~planes.missing]))
    for k in range(shape[0]):
        place = min(depth[0] + k * step_mm, depth[-1])
        low = int(np.clip(np.searchsorted(depth, place + 1e-6) - 1, 0, len(depth) - 2))
        part = float(np.clip((place - depth[low]) / gaps[low], 0, 1))
        if planes.missing[low] and min(part, 1 - part) * gaps[low] > reach_mm:
            continue
        row = (1 - part) * down[low] + part * down[low + 1] - first_row
        column = (1 - part) * across[low] + part * across[low + 1] - first_column
        blend = scan.hu[low] * np.float32(1 - part) + scan.hu[low + 1] * np.float32(part)
        hu[k] = np.rint(_moved(blend, row, column, shape[1:]))
        plane, top, left = _between(mask[low], mask[low + 1], part), round(row), round(column)
        marked[k, top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    origin = (
        planes.positions_mm[0]
        + (first_row - down[0]) * row_mm * planes.column_cosine
        + (first_column - across[0]) * column_mm * planes.row_cosine
    )
    return Volume(hu, marked, _affine(origin, planes, step_mm, planes.pixel_spacing_mm))


def _between(lower: NDArray[np.bool_], upper: NDArray[np.bool_], part: float) -> NDArray[np.bool_]:
    """Give the mask at a part of the way from one plane to the next.

    What overlaps on both planes changes its outline evenly (signed distances are blended: shape-based interpolation,
    Raya and Udupa, IEEE Trans Med Imaging 1990;9:32); what is on one plane only reaches half the way.
    """
    from scipy import ndimage

    nearest = (lower, upper)[round(part)]
    both = np.stack([lower, upper])
    if not 1e-3 < part < 1 - 1e-3 or not lower.any() or not upper.any():
        return nearest
    pieces, _ = ndimage.label(both)
    shared = both & np.isin(pieces, np.intersect1d(pieces[0], pieces[1])) & (pieces > 0)
    if not shared.any():
        return nearest
    rows, columns = (np.flatnonzero(shared.any(axes)) for axes in ((0, 2), (0, 1)))
    box = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    inside = [ndimage.distance_transform_edt(one[box]) - ndimage.distance_transform_edt(~one[box]) for one in shared]
    made = nearest & ~shared[round(part)]
    made[box] |= (1 - part) * inside[0] + part * inside[1] > 0
    return made


def _moved(plane: NDArray[np.float32], row: float, column: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Lay a plane into a larger one of the shape, its first pixel at (row, column) >= 0, linear; air around it."""
    top, left = int(row + 1e-6), int(column + 1e-6)
    down, right = max(row - top, 0.0), max(column - left, 0.0)
    padded = np.pad(plane, 1, constant_values=_AIR_HU)
    for axis, part in ((0, down), (1, right)):
        if part > 1e-3:
            padded = padded * np.float32(1 - part) + np.roll(padded, 1, axis) * np.float32(part)
    whole = np.full((shape[0] + 2, shape[1] + 2), _AIR_HU, dtype=np.float32)
    height, width = min(padded.shape[0], whole.shape[0] - top), min(padded.shape[1], whole.shape[1] - left)
    whole[top : top + height, left : left + width] = padded[:height, :width]
    return whole[1:-1, 1:-1]


def _affine(origin_mm: Floats, planes: Planes, step_mm: float, spacing_mm: tuple[float, float]) -> Floats:
    """Give the affine (column, row, slice) to LPS mm of a grid whose steps are along the planes' directions."""
    affine = np.eye(4)
    affine[:3, 0] = planes.row_cosine * spacing_mm[1]
    affine[:3, 1] = planes.column_cosine * spacing_mm[0]
    affine[:3, 2] = planes.normal * step_mm
    affine[:3, 3] = origin_mm
    return affine


def _write(path: Path, values: NDArray[Any], affine_lps: Floats, scan: Scan, description: str) -> None:
    import nibabel

    affine = _LPS_TO_RAS @ affine_lps
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    image.header.set_data_dtype(values.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm" if scan.spacing_known else "unknown")
    image.header["descrip"] = f"StrokeSeg: {description}".encode()[:79]
    # No name and no time inside: the same scan gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
        packed.write(image.to_bytes())
