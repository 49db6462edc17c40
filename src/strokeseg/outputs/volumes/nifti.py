"""CT, mask and lesions as NIfTI: on one regular orthogonal grid, and on the planes as acquired.

This is the only writer that uses RAS.
"""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.outputs.volumes.regular_grid import RegularVolume, ResampledCt, compute_native_affine
from strokeseg.result import Remark
from strokeseg.scan import Floats, Scan

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GZIP_LEVEL = 1
_MASK_DESCRIPTION = "1 = hemorrhage"


def save(folder: Path, scan: Scan, volume: RegularVolume) -> dict[str, str]:
    """Write `ct.nii.gz` (int16, Hounsfield units), `mask.nii.gz` (uint8, 0 or 1) and `lesions.nii.gz` (lesion ids).

    If the spacing is unknown, a voxel measures 1 without a unit, and the description in the header says so.

    Parameters
    ----------
    folder : Path
        Where to write them.
    scan : Scan
        The scan.
    volume : RegularVolume
        From :func:`strokeseg.outputs.volumes.regular_grid.make_regular`.

    Returns
    -------
    dict of str to str
        File names by key of `result.json`.
    """
    id_type = np.dtype(np.uint8 if int(volume.labels.max(initial=0)) < 256 else np.uint16)
    mask, ct, lesions = (folder / f"{name}.nii.gz" for name in ("mask", "ct", "lesions"))
    # zlib releases the interpreter lock: the CT is compressed while the two others are.
    with ThreadPoolExecutor(2) as pool:
        writes = [
            pool.submit(_write, ct, volume.hu, volume.affine, scan, _describe_ct(scan)),
            pool.submit(_write, mask, volume.labels, volume.affine, scan, _MASK_DESCRIPTION, np.dtype(np.bool_)),
            pool.submit(_write, lesions, volume.labels, volume.affine, scan, "1 is the largest lesion", id_type),
        ]
    for write in writes:
        write.result()
    return {"mask": "mask.nii.gz", "ct": "ct.nii.gz", "lesion_volume": "lesions.nii.gz"}


def save_native(folder: Path, scan: Scan, mask: NDArray[np.bool_]) -> dict[str, str]:
    """Write `mask_native.nii.gz` and `ct_native.nii.gz` on the planes as acquired, with every pixel unchanged.

    A tilted gantry needs a sheared affine. Only the sform (code 1) can hold it; the qform has code 0. The third voxel
    size is the step along the normal, so that the product of the sizes is the volume of a voxel.

    Parameters
    ----------
    folder : Path
        Where to write them.
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.

    Returns
    -------
    dict of str to str
        File names by key of `result.json`; empty if no affine can represent the planes
        (:func:`strokeseg.outputs.volumes.regular_grid.compute_native_affine`).
    """
    affine = compute_native_affine(scan)
    if affine is None:
        return {}
    _write(folder / "mask_native.nii.gz", mask, affine, scan, _MASK_DESCRIPTION)
    _write(folder / "ct_native.nii.gz", scan.hu, affine, scan, _describe_ct(scan))
    return {"mask_native": "mask_native.nii.gz", "ct_native": "ct_native.nii.gz"}


def explain_missing_native(scan: Scan) -> Remark | None:
    """Return the remark that explains why there are no native files; None if there are."""
    if compute_native_affine(scan) is not None:
        return None
    return Remark(
        code="no-native",
        severity="warning",
        message="The slices are not evenly spaced, and the affine of a NIfTI file cannot represent that. Mask and CT "
        "are written on the regular grid only.",
    )


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
    """Write values (slices, rows, columns) slice by slice, converted to ``dtype`` if given, without a second volume.

    NIfTI has no booleans: they are written as 0 and 1 in uint8.
    """
    import nibabel

    affine, dtype = _LPS_TO_RAS @ affine_lps, dtype or values.dtype
    stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    # An image without pixel data of its own: the pixels follow the header in the memory order of the scan.
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
    scale_note = "" if scan.spacing_known else "; voxel size unknown, not to scale"
    header["descrip"] = f"StrokeSeg: {description}{scale_note}".encode()[:79]
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    # Without a file name and a time, the same scan gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as compressed:
        header.write_to(compressed)
        for plane in values:
            compressed.write(plane.astype(dtype, copy=False).tobytes())
