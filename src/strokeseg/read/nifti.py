"""NIfTI volumes: axes are only reordered and turned end for end, and the only place that reads RAS."""

from __future__ import annotations

import gzip
import io
import math
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NoHounsfield, StrokesegError, TooLarge, UnreadableFile
from strokeseg.read.archive import MOST_VOXELS, Member
from strokeseg.result import Remark
from strokeseg.scan import Planes, Scan

_MM = {"meter": 1000.0, "micron": 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AIR_HU = -1024
ENDINGS = (".nii", ".nii.gz")


def scan(member: Member) -> Scan:
    """Read a NIfTI volume in Hounsfield units.

    The voxel axis nearest the patient's long axis becomes the slice axis, the one nearest front-back the rows. A
    sheared affine stays as it is: it gives the planes of a tilted series.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`
    """
    values, affine, placed = _load(member)
    axes, flips = _axes(affine[:3, :3], member.name)
    for axis, turn in zip(axes, flips, strict=True):
        if turn:
            affine = affine.copy()
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    values = np.transpose(values, axes)
    slice_step, row_step, column_step = (affine[:3, axis] for axis in axes)
    if abs(row_step @ column_step) > 0.01 * np.linalg.norm(row_step) * np.linalg.norm(column_step):
        raise InconsistentGeometry(f"{member.name}: rows and columns are not at right angles", "Resample the volume.")
    positions = affine[:3, 3] + np.arange(len(values))[:, None] * slice_step
    row_mm, column_mm = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    column_cosine, row_cosine = row_step / row_mm, column_step / column_mm
    thickness = abs(float(slice_step @ np.cross(row_cosine, column_cosine)))
    planes = Planes(positions, row_cosine, column_cosine, (row_mm, column_mm), thickness)
    hu, remarks = _hounsfield(values, member.name)
    if not placed:
        remarks.append(_NO_AFFINE)
    return Scan(hu, planes, kind="nifti", remarks=tuple(remarks))


_NO_AFFINE = Remark(
    code="no-orientation",
    severity="warning",
    message="The NIfTI file states no orientation (sform and qform are 0): left and right are not known.",
)


def _load(member: Member) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    import nibabel

    try:
        data = _unpacked(member.read())
        kind = nibabel.Nifti2Image if data[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
        image = kind.from_bytes(data)
        voxels = math.prod(image.shape)
        if voxels > MOST_VOXELS:
            raise TooLarge(f"{member.name}: {voxels:,} voxels; at most {MOST_VOXELS:,} are read")
        values = np.asanyarray(image.dataobj)
        known = bool(image.header["sform_code"] or image.header["qform_code"])
        affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
        affine[:3] *= _MM.get(image.header.get_xyzt_units()[0], 1.0)
    except StrokesegError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise nearly anything on damaged bytes
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableFile(f"{member.name}: no readable NIfTI: {text[:120]}", "Copy or export it again.") from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.size == 0 or values.dtype.kind not in "iuf":
        raise UnreadableFile(
            f"{member.name}: {values.shape} of {values.dtype} is no single volume of grey values", "Give one 3D volume."
        )
    return values, affine, known


def _unpacked(data: bytes) -> bytes:
    """Unpack gzip, to at most what the most voxels need."""
    if data[:2] != b"\x1f\x8b":
        return data
    most = MOST_VOXELS * 4
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        whole = stream.read(most + 1)
    if len(whole) > most:
        raise TooLarge(f"unpacks to more than {most // 2**30} GiB")
    return whole


def _axes(matrix: NDArray[np.float64], name: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Choose the voxel axes that become slice, row, column, and which of them are turned end for end."""
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or (lengths < 1e-6).any() or abs(np.linalg.det(matrix / lengths)) < 0.05:
        raise InconsistentGeometry(f"{name}: the affine does not span a volume", "Mend the header's affine.")
    unit = matrix / lengths
    best = max(permutations(range(3)), key=lambda p: abs(unit[2, p[0]]) + abs(unit[1, p[1]]) + abs(unit[0, p[2]]))
    flips = (unit[2, best[0]] < 0, unit[1, best[1]] < 0, unit[0, best[2]] < 0)
    return (best[0], best[1], best[2]), (bool(flips[0]), bool(flips[1]), bool(flips[2]))


def _hounsfield(values: NDArray[Any], name: str) -> tuple[NDArray[np.int16], list[Remark]]:
    remarks = []
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        lost = values.size - int(np.count_nonzero(finite))
        if lost > values.size // 2:
            raise NoHounsfield(f"{name}: {lost / values.size:.0%} of the values are no numbers")
        if lost:
            values = np.where(finite, values, _AIR_HU)
            message = f"{lost} values were no numbers; they were set to air."
            remarks.append(Remark(code="no-numbers", severity="repaired", message=message))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1.5:
        raise NoHounsfield(f"{name}: values lie between {low:.2g} and {high:.2g}: a mask or a scaled picture")
    if values.dtype.kind == "f":
        values = np.rint(values)
    return np.ascontiguousarray(np.clip(values, -32768, 32767), dtype=np.int16), remarks
