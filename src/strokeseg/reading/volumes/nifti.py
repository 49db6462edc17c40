"""NIfTI volumes; the only place that reads RAS. The affine is the sform's, or the qform's where there is no sform."""

from __future__ import annotations

import gzip
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.input_file import MAX_VOXELS, InputFile
from strokeseg.reading.volumes import orientation
from strokeseg.result import Remark
from strokeseg.scan import Floats, Scan

_UNIT_MM = {"meter": 1000.0, "micron": 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINE_TOLERANCE_PX = 0.5  # voxels: what a header's rounding and a writer's half-pixel come to
_MAX_HEADER_BYTES = 2**20
ENDINGS = (".nii", ".nii.gz")


def read_nifti(member: InputFile) -> Scan:
    """Read a NIfTI volume in Hounsfield units; see :func:`strokeseg.reading.volumes.orientation.orient_volume`.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`.
    """
    data = limits.read_within(member, limits.MAX_VOLUME_BYTES)
    try:
        values, scale, affine, placed, remarks = _load_voxels(decompress(data, member.name), member.name)
    except StrokesegError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise nearly anything on damaged bytes, and quote the header
        raise UnreadableFile(
            f"{member.name}: no readable NIfTI ({type(error).__name__})", "Copy or export it again."
        ) from None
    del data
    made = orientation.orient_volume(values, affine, member.name, "nifti", oriented=placed, scale=scale)
    return made.with_remarks(*remarks)


def _load_voxels(data: bytes, name: str) -> tuple[NDArray[Any], tuple[float, float], Floats, bool, list[Remark]]:
    """Return the stored voxels, their slope and intercept, the affine (LPS), whether it states sides, and remarks."""
    import nibabel

    kind = nibabel.Nifti2Image if data[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
    image = kind.from_bytes(data)
    stored: Any = image.dataobj
    values = _view_voxels(data, tuple(int(size) for size in stored.shape), stored.dtype, int(stored.offset), name)
    placed = bool(image.header["sform_code"] or image.header["qform_code"])
    affine, remarks = _choose_affine(image)
    affine = _RAS_TO_LPS @ affine
    affine[:3] *= _UNIT_MM.get(image.header.get_xyzt_units()[0], 1.0)
    return values, (float(stored.slope), float(stored.inter)), affine, placed, remarks


def _view_voxels(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, name: str) -> NDArray[Any]:
    """View the voxels where they lie: what a header claims is held against the bytes before anything is made of it."""
    if min(shape, default=0) < 1 or start < 0 or dtype.kind not in "iuf":
        raise UnreadableFile(f"{name}: {shape} of {dtype} is no single volume of grey values", "Give one 3D volume.")
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS:
        raise TooLarge(f"{name}: {voxels:,} voxels; at most {MAX_VOXELS:,} are read")
    limits.check_size(voxels * dtype.itemsize, limits.MAX_VOLUME_BYTES, name)
    if start + voxels * dtype.itemsize > len(data):
        raise UnreadableFile(f"{name}: the file ends before its {voxels:,} voxels do", "Copy or export it again.")
    return np.frombuffer(data, dtype, voxels, start).reshape(shape, order="F")


def _choose_affine(image: Any) -> tuple[Floats, list[Remark]]:
    """Choose between the two affines that a header may hold (RAS), and remark where they part.

    The sform goes first, as in nibabel and FSL, but for one that spans no volume. What is measured is how far from each
    other they put the volume's corners, in voxels.
    """
    sform, sform_code = image.header.get_sform(coded=True)
    qform, qform_code = image.header.get_qform(coded=True)
    if sform is None or qform is None:
        return np.asarray(image.affine, dtype=np.float64), []
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.isfinite(sform).all() or (sizes == 0).any():
        message = "The header's sform spans no volume; its qform was used."
        return qform, [Remark(code="affines-disagree", severity="warning", message=message)]
    last = np.array(image.shape[:3]) - 1
    corners = np.array([[*(last * corner), 1] for corner in np.ndindex(2, 2, 2)])
    apart_mm = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if apart_mm <= _AFFINE_TOLERANCE_PX * sizes.min():
        return sform, []
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    message = (
        f"The header's two affines (sform code {sform_code}, qform code {qform_code}) part by up to {apart_mm:.1f} mm; "
        f"the sform was used.{' One is the mirror image of the other: check the sides.' if mirrored else ''}"
    )
    return sform, [Remark(code="affines-disagree", severity="warning", message=message)]


def decompress(data: bytes, name: str) -> bytes:
    """Unpack gzip, to at most the bytes that a volume may have; other bytes are given back as they are.

    Raises
    ------
    TooLarge
        `too-large`.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    most = limits.MAX_VOLUME_BYTES + _MAX_HEADER_BYTES
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        whole = stream.read(most + 1)
    if len(whole) > most:
        raise TooLarge(f"{name}: unpacks to more than {most // 2**30} GiB")
    return whole
