"""Series for speed measurements: the GE sample, resampled to any number of slices, with a drawn lesion."""

from __future__ import annotations

import copy
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian

HEAD_HEIGHT_MM = 160.0
"""Height of the head, for any number of slices."""

_LESION_HU = 68
_LESION_HALF_AXES_MM = (18.0, 25.0, 16.0)
"""Half axes (slice, row, column): 30 ml, the median of large lesions."""


def write_series(sample: Path, slices: int, folder: Path) -> Path:
    """Write a DICOM series of 512 x 512 pixels with slices interpolated from the sample's.

    The headers and the tilt of the gantry stay, so that every step works as with a scanner's series.

    Parameters
    ----------
    sample : Path
        Samples/ge_head.zip.
    slices : int
        Number of slices.
    folder : Path
        Folder for the files NNNN.dcm; created if missing.

    Returns
    -------
    Path
        The folder.
    """
    with zipfile.ZipFile(sample) as archive:
        files = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist() if name.endswith("dcm")]
    files.sort(key=lambda data: float(data.ImagePositionPatient[2]))
    planes = [data.pixel_array for data in files]
    for data in files:
        del data.PixelData
    folder.mkdir(parents=True, exist_ok=True)
    series = _make_uid(f"series {slices}")
    for index in range(slices):
        at = index * (len(files) - 1) / max(1, slices - 1)
        low, part = int(at), at - int(at)
        high = min(low + 1, len(files) - 1)
        data = copy.deepcopy(files[low])
        pixels = np.rint((1 - part) * planes[low] + part * planes[high]).astype(planes[low].dtype)
        step_mm = HEAD_HEIGHT_MM / slices
        _draw_lesion(pixels, (index - 0.55 * slices) * step_mm, data)
        first = files[0].ImagePositionPatient
        data.ImagePositionPatient = [first[0], first[1], f"{float(first[2]) + index * step_mm:.4f}"]
        data.SliceThickness = f"{step_mm:.4f}"
        data.InstanceNumber = index + 1
        data.SeriesInstanceUID = series
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(_make_uid(f"slice {index} of {slices}"))
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.add_new("PixelData", "OW", pixels.tobytes())
        data.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)
    return folder


def _draw_lesion(pixels: NDArray[np.integer], above_mm: float, data: pydicom.Dataset) -> None:
    """Add the lesion's cross-section at a height to a slice, with the noise of the tissue below."""
    spacing_mm = float(data.PixelSpacing[0])
    rows, columns = (np.indices(pixels.shape, dtype=np.float32) - pixels.shape[0] / 2) * spacing_mm
    distance = (
        (above_mm / _LESION_HALF_AXES_MM[0]) ** 2
        + ((rows + 5) / _LESION_HALF_AXES_MM[1]) ** 2
        + ((columns - 32) / _LESION_HALF_AXES_MM[2]) ** 2
    )
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    brain = (30 - intercept) / slope
    pixels[distance < 1] += np.rint((_LESION_HU - intercept) / slope - brain).astype(pixels.dtype)


def _make_uid(name: str) -> str:
    """Make a UID that is the same in every run."""
    return f"2.25.{int(hashlib.sha256(f'strokeseg bench speed {name}'.encode()).hexdigest()[:30], 16)}"
