"""CT, mask and lesions as NIfTI: on one regular orthogonal grid, and on the planes as acquired.

It is the only writer that knows RAS.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging.components import Labels
from strokeseg.result import Remark
from strokeseg.scan import Floats, Planes, Scan

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AIR_HU = -1024
_REGULAR_TOLERANCE_MM = 0.05
_GZIP_LEVEL = 1
_MASK_DESCRIPTION = "1 = hemorrhage"


@dataclass(frozen=True)
class _GridSlice:
    """A slice of a regular grid: between the planes ``low`` and ``low + 1``, ``part`` of the way; moved in the plane.

    ``row`` and ``column`` are where its first pixel lies on the grid, in pixels.
    """

    low: int
    fraction: float
    row: float
    column: float


@dataclass(frozen=True)
class ResampledCt:
    """A CT on a regular grid, int16, which can be iterated over as its slices, any number of times.

    Parameters
    ----------
    hu : ndarray of int16
        Of the scan.
    shape : tuple of (int, int, int)
        (slices, rows, columns) of the grid.
    planes : tuple of _GridSlice or None
        A slice each; None where it lies in a gap in which slices are missing, and is air.
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
            low, part = plane.low, np.float32(plane.fraction)
            blend = self.hu[low] * np.float32(1 - plane.fraction) + self.hu[low + 1] * part
            yield np.rint(_shift_plane(blend, plane.row, plane.column, self.shape[1:])).astype(np.int16)


class RegularVolume(NamedTuple):
    """CT and lesions on one grid.

    ``hu`` int16 and ``labels`` (0 is background, 1 the largest lesion) are (slices, rows, columns); ``affine`` (4, 4)
    maps (column, row, slice) to LPS mm. A resampled CT is made slice by slice as it is asked for, and never whole.
    """

    hu: NDArray[np.int16] | ResampledCt
    labels: Labels
    affine: Floats


def save(folder: Path, scan: Scan, volume: RegularVolume) -> dict[str, str]:
    """Write `ct.nii.gz` (int16, Hounsfield units), `mask.nii.gz` (uint8, 0 or 1) and `lesions.nii.gz` (the ids).

    Where the spacing is not known a voxel measures 1 without a unit, and the header's description says so.

    Parameters
    ----------
    volume : RegularVolume
        From :func:`regular`.

    Returns
    -------
    dict of str to str
        The names of the files.
    """
    number = np.dtype(np.uint8 if int(volume.labels.max(initial=0)) < 256 else np.uint16)
    mask, ct, lesions = (folder / f"{name}.nii.gz" for name in ("mask", "ct", "lesions"))
    # zlib works without the interpreter's lock: the CT is packed beside the two others.
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(_write, ct, volume.hu, volume.affine, scan, _describe_ct(scan)),
            pool.submit(_write, mask, volume.labels, volume.affine, scan, _MASK_DESCRIPTION, np.dtype(np.bool_)),
            pool.submit(_write, lesions, volume.labels, volume.affine, scan, "1 is the largest lesion", number),
        ]
    for each in made:
        each.result()
    return {"mask": "mask.nii.gz", "ct": "ct.nii.gz", "lesion_volume": "lesions.nii.gz"}


def save_native(folder: Path, scan: Scan, mask: NDArray[np.bool_]) -> dict[str, str]:
    """Write `mask_native.nii.gz` and `ct_native.nii.gz` on the planes as acquired: every pixel as it was.

    A tilted gantry is a sheared affine. It stands in the sform (code 1) alone; a qform cannot hold it, its code is 0.
    The third voxel size is the step along the normal, so that their product is a voxel's volume.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        On the scan's grid.

    Returns
    -------
    dict of str to str
        The names of the files; none where no affine can say where the planes lie (:func:`native_affine`).
    """
    affine = compute_native_affine(scan)
    if affine is None:
        return {}
    _write(folder / "mask_native.nii.gz", mask, affine, scan, _MASK_DESCRIPTION)
    _write(folder / "ct_native.nii.gz", scan.hu, affine, scan, _describe_ct(scan))
    return {"mask_native": "mask_native.nii.gz", "ct_native": "ct_native.nii.gz"}


def compute_native_affine(scan: Scan) -> Floats | None:
    """Return the affine (column, row, slice) to LPS mm of the planes as acquired, sheared where the gantry was tilted.

    Returns
    -------
    Floats or None
        (4, 4); None where the planes are not evenly stepped (to 0.05 mm), which no affine can say.
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


def explain_missing_native(scan: Scan) -> Remark | None:
    """Say why there is no native pair, where there is none."""
    if compute_native_affine(scan) is not None:
        return None
    return Remark(
        code="no-native",
        severity="warning",
        message="The slices are not evenly spaced, which the affine of a NIfTI cannot say: mask and CT are written on "
        "the regular grid only.",
    )


def make_regular(scan: Scan, labels: Labels) -> RegularVolume:
    """Put a scan and its lesions on one regular orthogonal grid.

    Planes that are regular already (even steps along the normal, to 0.05 mm) stay as they are. Otherwise the grid keeps
    the pixels' directions and size and takes the median gap as its step; it is wide enough for every plane.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), on the scan's grid; 0 is background, 1 the largest lesion.
    """
    planes, affine = scan.planes, compute_native_affine(scan)
    if affine is not None:
        along = planes.normal * float(affine[:3, 2] @ planes.normal)
        shear_mm = np.linalg.norm(affine[:3, 2] - along) * (len(scan.hu) - 1)
        if shear_mm <= _REGULAR_TOLERANCE_MM:
            affine[:3, 2] = along
            return RegularVolume(scan.hu, labels, affine)
    return _resample(scan, labels)


def _resample(scan: Scan, labels: Labels) -> RegularVolume:
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
    marked = np.zeros(shape, dtype=labels.dtype)
    grid: list[_GridSlice | None] = []
    reach_mm = 0.75 * float(np.median(gaps[~planes.gaps_with_missing_slices]))
    for k in range(shape[0]):
        place = min(depth[0] + k * step_mm, depth[-1])
        low = int(np.clip(np.searchsorted(depth, place + 1e-6) - 1, 0, len(depth) - 2))
        part = float(np.clip((place - depth[low]) / gaps[low], 0, 1))
        if planes.gaps_with_missing_slices[low] and min(part, 1 - part) * gaps[low] > reach_mm:
            grid.append(None)
            continue
        row = (1 - part) * down[low] + part * down[low + 1] - first_row
        column = (1 - part) * across[low] + part * across[low + 1] - first_column
        grid.append(_GridSlice(low, part, row, column))
        plane, top, left = _interpolate_labels(labels[low], labels[low + 1], part), round(row), round(column)
        marked[k, top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    origin = (
        planes.positions_mm[0]
        + (first_row - down[0]) * row_mm * planes.column_cosine
        + (first_column - across[0]) * column_mm * planes.row_cosine
    )
    hu = ResampledCt(scan.hu, shape, tuple(grid))
    return RegularVolume(hu, marked, _make_affine(origin, planes, planes.normal * step_mm, planes.pixel_spacing_mm))


def _interpolate_labels(lower: Labels, upper: Labels, part: float) -> Labels:
    """Return the lesions at a part of the way from one plane to the next.

    What overlaps on both planes changes its outline evenly (signed distances are blended: shape-based interpolation,
    Raya and Udupa, IEEE Trans Med Imaging 1990;9:32); what is on one plane only reaches half the way. A pixel so found
    is marked on one of the planes, on the nearer one if on both, and has its label there.
    """
    nearest, other = (lower, upper) if round(part) == 0 else (upper, lower)
    if not 1e-3 < part < 1 - 1e-3 or not lower.any() or not upper.any():
        return nearest
    return np.where(_interpolate_mask(lower > 0, upper > 0, part), np.where(nearest > 0, nearest, other), 0)


def _interpolate_mask(lower: NDArray[np.bool_], upper: NDArray[np.bool_], part: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    both = np.stack([lower, upper])
    pieces, _ = ndimage.label(both)
    shared = both & np.isin(pieces, np.intersect1d(pieces[0], pieces[1])) & (pieces > 0)
    if not shared.any():
        return both[round(part)]
    rows, columns = (np.flatnonzero(shared.any(axes)) for axes in ((0, 2), (0, 1)))
    box = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    inside = [ndimage.distance_transform_edt(one[box]) - ndimage.distance_transform_edt(~one[box]) for one in shared]
    made = both[round(part)] & ~shared[round(part)]
    made[box] |= (1 - part) * inside[0] + part * inside[1] > 0
    return np.asarray(made)


def _shift_plane(plane: NDArray[np.float32], row: float, column: float, shape: tuple[int, int]) -> NDArray[np.float32]:
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


def _make_affine(origin_mm: Floats, planes: Planes, step_mm: Floats, spacing_mm: tuple[float, float]) -> Floats:
    """Return the affine (column, row, slice) to LPS mm; ``step_mm`` (3,) leads from slice to slice."""
    affine = np.eye(4)
    affine[:3, 0] = planes.row_cosine * spacing_mm[1]
    affine[:3, 1] = planes.column_cosine * spacing_mm[0]
    affine[:3, 2] = step_mm
    affine[:3, 3] = origin_mm
    return affine


def _describe_ct(scan: Scan) -> str:
    return "Hounsfield units" if scan.calibrated else "not Hounsfield units"


def _write(
    path: Path,
    values: NDArray[Any] | ResampledCt,
    affine_lps: Floats,
    scan: Scan,
    description: str,
    dtype: np.dtype[Any] | None = None,
) -> None:
    """Write (slices, rows, columns) slice by slice, as ``dtype`` or as they are: no second volume is made.

    Booleans stand as 0 and 1 in uint8, since a NIfTI has none.
    """
    import nibabel

    affine, dtype = _LPS_TO_RAS @ affine_lps, dtype or values.dtype
    stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    # Of the form alone: the pixels follow the header in the order in which ours lie.
    image = nibabel.Nifti1Image(np.broadcast_to(stored.type(0), values.shape[::-1]), affine)
    header = image.header
    header.set_data_dtype(stored)
    image.set_sform(affine, code=1)
    column, row, step = affine[:3, :3].T
    normal = np.cross(column, row) / np.linalg.norm(np.cross(column, row))
    along_mm = abs(float(step @ normal))
    sheared = np.linalg.norm(step) > along_mm * (1 + 1e-6)
    image.set_qform(None if sheared else affine, code=int(not sheared))
    if sheared:
        header.set_zooms((*header.get_zooms()[:2], along_mm))
    header.set_xyzt_units("mm" if scan.spacing_known else "unknown")
    said = "" if scan.spacing_known else "; voxel size unknown, not to scale"
    header["descrip"] = f"StrokeSeg: {description}{said}".encode()[:79]
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    # No name and no time inside: the same scan gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
        header.write_to(packed)
        for plane in values:
            packed.write(plane.astype(dtype, copy=False).tobytes())
