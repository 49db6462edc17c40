"""Read NIfTI volumes. Only here is RAS read. The affine is the sform, or the qform if there is no sform."""

from __future__ import annotations

import gzip
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.volumes.orientation import orient_volume
from strokeseg.result import Remark
from strokeseg.scan import Floats, Scan

_UNIT_MM = {"meter": 1000.0, "micron": 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINE_TOLERANCE_VOXELS = 0.5  # a header's rounding, or a writer's shift by half a pixel
_MAX_HEADER_BYTES = 2**20
ENDINGS = (".nii", ".nii.gz")


def read_nifti(file: InputFile) -> Scan:
    """Read a NIfTI volume in Hounsfield units.

    Parameters
    ----------
    file : InputFile
        The file.

    Returns
    -------
    Scan
        The scan; see :func:`~strokeseg.reading.volumes.orientation.orient_volume`.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`.
    """
    data = file.read_within(limits.MAX_VOLUME_BYTES)
    try:
        values, scale, affine, oriented, remarks = _load_voxels(decompress(data, file.name), file.name)
    except StrokesegError:
        raise
    except Exception as error:  # nibabel, gzip and zlib may raise any error on damaged bytes, and quote the header
        raise UnreadableFile(
            f"{file.name}: not a readable NIfTI file ({type(error).__name__})", "Copy or export it again."
        ) from None
    del data
    scan = orient_volume(values, affine, file.name, "nifti", oriented=oriented, scale=scale)
    return scan.with_remarks(*remarks)


def _load_voxels(data: bytes, name: str) -> tuple[NDArray[Any], tuple[float, float], Floats, bool, list[Remark]]:
    """Return the stored voxels, (slope, intercept), the affine (LPS), whether an orientation is stated, and remarks."""
    import nibabel

    image_class = nibabel.Nifti2Image if data[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Image
    image = image_class.from_bytes(data)
    stored: Any = image.dataobj
    values = _view_voxels(data, tuple(int(size) for size in stored.shape), stored.dtype, int(stored.offset), name)
    oriented = bool(image.header["sform_code"] or image.header["qform_code"])
    affine, remarks = _choose_affine(image)
    affine = _RAS_TO_LPS @ affine
    affine[:3] *= _UNIT_MM.get(image.header.get_xyzt_units()[0], 1.0)
    return values, (float(stored.slope), float(stored.inter)), affine, oriented, remarks


def _view_voxels(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, name: str) -> NDArray[Any]:
    """View the voxels without a copy, after the header was checked against the number of bytes."""
    if min(shape, default=0) < 1 or start < 0 or dtype.kind not in "iuf":
        raise UnreadableFile(f"{name}: {shape} of {dtype} is not a single volume of grey values", "Give one 3D volume.")
    voxels = math.prod(shape)
    if voxels > limits.MAX_VOXELS:
        raise TooLarge(f"{name}: {voxels:,} voxels; at most {limits.MAX_VOXELS:,} are read")
    limits.check_size(voxels * dtype.itemsize, limits.MAX_VOLUME_BYTES, name)
    if start + voxels * dtype.itemsize > len(data):
        raise UnreadableFile(f"{name}: the file is too short for its {voxels:,} voxels", "Copy or export it again.")
    return np.frombuffer(data, dtype, voxels, start).reshape(shape, order="F")


def _choose_affine(image: Any) -> tuple[Floats, list[Remark]]:
    """Choose one of the two affines that a header may hold (RAS), with a remark if they differ.

    The sform goes first, as in nibabel and FSL, unless it spans no volume. The difference is the largest distance
    between the positions of a corner of the volume, in voxels.
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
    distance_mm = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if distance_mm <= _AFFINE_TOLERANCE_VOXELS * sizes.min():
        return sform, []
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    message = (
        f"The header's two affines (sform code {sform_code}, qform code {qform_code}) differ by up to "
        f"{distance_mm:.1f} mm; the sform was used."
    )
    if mirrored:
        message += " One is the mirror image of the other: check the sides."
    return sform, [Remark(code="affines-disagree", severity="warning", message=message)]


def decompress(data: bytes, name: str) -> bytes:
    """Decompress gzip within the limits of a volume; other data are returned unchanged.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Its name, for error messages.

    Raises
    ------
    TooLarge
        `too-large`.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    max_bytes = limits.MAX_VOLUME_BYTES + _MAX_HEADER_BYTES
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        decompressed = stream.read(max_bytes + 1)
    if len(decompressed) > max_bytes:
        raise TooLarge(f"{name}: unpacks to more than {max_bytes // 2**30} GiB")
    return decompressed
