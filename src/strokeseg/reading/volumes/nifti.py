"""Read NIfTI volumes. Only here is RAS read. The affine is the sform, or the qform if there is no sform."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

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
_MIN_SHEAR = 1e-3
_HEADER_BYTES = {1: 348, 2: 540}  # by version; extensions behind them are skipped
_CHUNK_BYTES = 2**20
_MAX_DEFLATE_RATIO = 1032  # of zlib's format: no file inflates to more than this times its size
_PAIR_MAGIC = (b"ni1\0", b"ni2\0")
PAIR_ENDING = ".hdr"
"""Of a header whose voxels lie in a file of the same name that ends in .img."""
ENDINGS = (".nii", ".nii.gz", PAIR_ENDING)


def read_nifti(file: InputFile, data_file: InputFile | None = None) -> Scan:
    """Read a NIfTI volume in Hounsfield units.

    Parameters
    ----------
    file : InputFile
        The file, or the header of a pair.
    data_file : InputFile, optional
        The voxels of a pair.

    Returns
    -------
    Scan
        The scan; see :func:`~strokeseg.reading.volumes.orientation.orient_volume`.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`.
    """
    file.check_bytes(limits.MAX_VOLUME_BYTES)
    try:
        values, scale, affine, oriented, remarks = _load_voxels(file, data_file)
    except (StrokesegError, MemoryError):
        raise
    except Exception as error:  # nibabel, gzip and zlib may raise any error on damaged bytes, and quote the header
        raise UnreadableFile(
            f"{file.name}: not a readable NIfTI file ({type(error).__name__})", "Copy or export it again."
        ) from None
    scan = orient_volume(values, affine, file.name, "nifti", oriented=oriented, scale=scale)
    return scan.with_remarks(*remarks)


def _load_voxels(
    file: InputFile, data_file: InputFile | None
) -> tuple[NDArray[Any], tuple[float, float], Floats, bool, list[Remark]]:
    """Return the stored voxels, (slope, intercept), the affine (LPS), whether an orientation is stated, and remarks.

    The header is read first; nothing is decompressed that it does not announce, and nothing twice.
    """
    import nibabel

    with _open_decompressed(file) as stream:
        start = stream.read(_HEADER_BYTES[2])
        version = 2 if start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else 1
        image_class = nibabel.Nifti2Image if version == 2 else nibabel.Nifti1Image
        if data_file is not None and (start[4:8] if version == 2 else start[344:348]) not in _PAIR_MAGIC:
            raise UnreadableFile(
                f"{file.name}: not the header of a NIfTI pair, but perhaps of Analyze, which states no sides",
                "Convert it to NIfTI with the program that wrote it.",
            )
        header = image_class.header_class.from_fileobj(io.BytesIO(start[: _HEADER_BYTES[version]]))
        if data_file is None:
            values = _read_voxels(stream, start, header, file)
    if data_file is not None:
        data_file.check_bytes(limits.MAX_VOLUME_BYTES)
        with _open_decompressed(data_file) as stream:
            values = _read_voxels(stream, b"", header, data_file)
    slope, intercept = header.get_slope_inter()
    scale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    oriented = bool(header["sform_code"] or header["qform_code"])
    affine, remarks = _choose_affine(header)
    affine = _RAS_TO_LPS @ affine
    affine[:3] *= _UNIT_MM.get(header.get_xyzt_units()[0], 1.0)
    return values, scale, affine, oriented, remarks


@contextmanager
def _open_decompressed(file: InputFile) -> Iterator[BinaryIO]:
    """Open a file, through gzip if it is compressed."""
    is_compressed = file.read_start(2) == b"\x1f\x8b"
    with file.open_guarded() as stream:
        if not is_compressed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as decompressed:
            yield cast(BinaryIO, decompressed)


def _read_voxels(stream: BinaryIO, start: bytes, header: Any, file: InputFile) -> NDArray[Any]:
    """Read the voxels into one array, and the file to its end; ``start`` was read from the stream before."""
    name = file.name
    max_bytes = file.measure_bytes() * (1 if isinstance(stream, io.BufferedReader) else _MAX_DEFLATE_RATIO)
    shape, dtype = tuple(int(size) for size in header.get_data_shape()), header.get_data_dtype()
    offset = int(header.get_data_offset())
    if min(shape, default=0) < 1 or offset < 0 or dtype.kind not in "iuf":
        raise UnreadableFile(f"{name}: {shape} of {dtype} is not a single volume of grey values", "Give one 3D volume.")
    voxels = math.prod(shape)
    too_short = UnreadableFile(f"{name}: the file is too short for its {voxels:,} voxels", "Copy or export it again.")
    if offset + voxels * dtype.itemsize > max_bytes:
        raise too_short
    limits.check_voxels(voxels, dtype.itemsize, name)
    limits.check_size(offset + voxels * dtype.itemsize, limits.MAX_VOLUME_BYTES, name)
    position = len(start)
    while position < offset and (skipped := stream.read(min(_CHUNK_BYTES, offset - position))):
        position += len(skipped)
    data = np.empty(voxels * dtype.itemsize, np.uint8)  # reserved, but not used before bytes arrive
    done = min(max(0, len(start) - offset), len(data))
    data[:done] = np.frombuffer(start, np.uint8, done, offset) if done else 0
    view = data.data
    while done < len(data) and (count := stream.readinto(view[done : done + _CHUNK_BYTES])):  # type: ignore[attr-defined]
        done += count
    if done < len(data):
        raise too_short
    _drain(stream, file)
    return data.view(dtype).reshape(shape, order="F")


def _drain(stream: BinaryIO, file: InputFile) -> None:
    """Read a compressed file to its end, where its checksum is, and discard what is behind the voxels."""
    if isinstance(stream, io.BufferedReader) and file.path is not None:
        return
    position, limit = 0, limits.MAX_VOLUME_BYTES
    while chunk := stream.read(_CHUNK_BYTES):
        position += len(chunk)
        if position > limit:
            raise TooLarge(f"{file.name}: unpacks to more than {limit // 2**30} GiB")


def _choose_affine(header: Any) -> tuple[Floats, list[Remark]]:
    """Choose one of the two affines that a header may hold (RAS), with a remark if they differ.

    The sform goes first, as in nibabel and FSL, unless it spans no volume. The difference is the largest distance
    between the positions of a corner of the volume, in voxels.
    """
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    if sform is None or qform is None:
        return np.asarray(header.get_best_affine(), dtype=np.float64), []
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.isfinite(sform).all() or (sizes == 0).any():
        message = "The header's sform spans no volume; its qform was used."
        return qform, [Remark(code="affines-disagree", severity="warning", message=message)]
    shape, tolerance_mm = header.get_data_shape(), _AFFINE_TOLERANCE_VOXELS * sizes.min()
    distance_mm = _max_corner_distance_mm(sform, qform, shape)
    if distance_mm <= tolerance_mm:
        return sform, []
    # The slices of a tilted gantry are a shear, which a qform cannot hold: no reason to doubt the sform.
    if any(_max_corner_distance_mm(qform, each, shape) <= tolerance_mm for each in _remove_shear(sform)):
        return sform, []
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    message = (
        f"The header's two affines (sform code {sform_code}, qform code {qform_code}) differ by up to "
        f"{distance_mm:.1f} mm; the sform was used."
    )
    if mirrored:
        message += " One is the mirror image of the other: check the sides."
    return sform, [Remark(code="affines-disagree", severity="warning", message=message)]


def _max_corner_distance_mm(one: Floats, other: Floats, shape: tuple[int, ...]) -> float:
    """Return the largest distance between the positions of a corner of the volume by two affines, mm."""
    last = np.array(shape[:3]) - 1
    corners = np.array([[*(last * corner), 1] for corner in np.ndindex(2, 2, 2)])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _remove_shear(sform: Floats) -> list[Floats]:
    """Return the qforms that writers make of a sheared sform; empty if there is no shear.

    A qform holds a rotation and three lengths. The rotation is the nearest one, by polar decomposition (nifti1_io,
    which dcm2niix uses, and nibabel), or keeps rows and columns. The third length is the step from slice to slice or
    its part along the normal of the slices.
    """
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    axes = sform[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() < _MIN_SHEAR:
        return []
    left, _, right = np.linalg.svd(axes)
    normal = np.cross(axes[:, 0], axes[:, 1])
    normal *= np.sign(normal @ axes[:, 2]) / np.linalg.norm(normal)
    qforms = []
    for rotation in (left @ right, np.column_stack([axes[:, :2], normal])):
        for step_mm in (lengths[2], lengths[2] * (normal @ axes[:, 2])):
            qform = sform.copy()
            qform[:3, :3] = rotation * [lengths[0], lengths[1], step_mm]
            qforms.append(qform)
    return qforms
