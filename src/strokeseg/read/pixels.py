"""One DICOM file's pixels, decoded, in Hounsfield units."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from strokeseg.errors import NoHounsfield, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.read.archive import Member

# pydicom reads lazily: a damaged element shows itself in any of these, at any access.
DAMAGED = (
    InvalidDicomError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    NotImplementedError,
    OverflowError,
)
_AIR_HU = -1024


def stream(member: Member) -> Any:
    """Give what pydicom reads from: the path, or the bytes as a file."""
    return io.BytesIO(member.data) if member.data is not None else member.path


def hounsfield(member: Member, shape: tuple[int, int]) -> NDArray[np.int16]:
    """Decode one file's pixels to Hounsfield units.

    Raises
    ------
    UnreadableFile, UnsupportedTransferSyntax, NoHounsfield
        `unreadable`, `transfer-syntax`, `no-hounsfield`
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(stream(member), force=True)
            syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
            if syntax is None:
                data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
            pixels = np.asarray(data.pixel_array)
    except NotImplementedError as error:
        raise UnsupportedTransferSyntax(f"{member.name}: {error}") from None
    except RuntimeError as error:  # pydicom: no decoder is there, or every one failed
        text = str(error).split(".")[0]
        raise UnsupportedTransferSyntax(f"{member.name}: the pixels cannot be decoded: {text}") from None
    except DAMAGED as error:
        raise UnreadableFile(f"{member.name}: the pixels are missing or cut off ({type(error).__name__})") from None
    if pixels.shape != shape:
        raise UnreadableFile(f"{member.name}: pixels of {pixels.shape}, the header says {shape}")
    return _rescaled(data, pixels, member.name)


def _rescaled(data: Dataset, pixels: NDArray[Any], name: str) -> NDArray[np.int16]:
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is None or intercept is None:
        raise NoHounsfield(f"{name}: no rescale slope and intercept")
    try:
        factor, offset = float(slope), float(intercept)
    except (TypeError, ValueError):
        raise NoHounsfield(f"{name}: the rescale slope or intercept is no number") from None
    if not np.isfinite([factor, offset]).all() or factor == 0:
        raise NoHounsfield(f"{name}: the rescale slope is {slope}, the intercept {intercept}")
    hu = pixels.astype(np.float32) * factor + offset
    padding = data.get("PixelPaddingValue")
    if isinstance(padding, int):
        hu[pixels == padding] = _AIR_HU
    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
