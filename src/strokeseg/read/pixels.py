"""One DICOM file's pixels, decoded, in Hounsfield units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from strokeseg.errors import NoHounsfield, StrokesegError, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.read import codestream
from strokeseg.read.archive import Member

_AIR_HU = -1024
# A padding value that would be tissue after rescaling is a mistake in the header: applied, it would tear holes.
_TISSUE_HU = (-300, 3100)


def hounsfield(member: Member, shape: tuple[int, int]) -> NDArray[np.int16]:
    """Decode one file's pixels to Hounsfield units; padding becomes air.

    Raises
    ------
    UnreadableFile, UnsupportedTransferSyntax, NoHounsfield
        `unreadable`, `transfer-syntax`, `no-hounsfield`
    """
    try:
        with member.open() as stream:
            data = dcmread(stream, force=True)
        _settle_syntax(data, member.name)
        pixels = np.asarray(data.pixel_array)
        numbers = {key: data.get(key) for key in ("RescaleSlope", "RescaleIntercept", *_PADDING)}
    except StrokesegError:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly anything on damaged bytes
        raise UnreadableFile(
            f"{member.name}: the pixels are missing, damaged or cut off ({type(error).__name__})",
            "Copy or export the file again.",
        ) from None
    if pixels.shape != shape:
        raise UnreadableFile(f"{member.name}: pixels of the form {pixels.shape}, the header says {shape}")
    return _rescaled(pixels, numbers, member.name)


def _settle_syntax(data: FileDataset, name: str) -> None:
    """Make sure that a decoder is there; a file that names no transfer syntax has the one it was parsed with."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    if not syntax:
        if data["PixelData"].is_undefined_length:
            raise UnsupportedTransferSyntax(f"{name}: the pixels are compressed, and the file does not say how")
        implicit, little = data.original_encoding
        native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = native
        return
    try:
        available = get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        available = False
    if not available:
        known = UID(syntax).name if UID(syntax).is_valid else "that is no UID"
        raise UnsupportedTransferSyntax(f"{name}: no decoder for the transfer syntax {known}")
    if UID(syntax).is_encapsulated and syntax != RLELossless:
        _check_frame(data, name)
        _quiet_gdcm()


def _check_frame(data: FileDataset, name: str) -> None:
    """Refuse a frame of another form than the header says, which a decoder may not survive."""
    found = codestream.form(get_frame(data.PixelData, 0, number_of_frames=1))
    if found is None:
        raise UnreadableFile(
            f"{name}: the compressed pixels do not begin as {UID(data.file_meta.TransferSyntaxUID).name}"
        )
    said = codestream.Form(data.Rows, data.Columns, data.SamplesPerPixel, data.BitsAllocated)
    if (found.rows, found.columns, found.samples) != (said.rows, said.columns, said.samples):
        raise UnreadableFile(
            f"{name}: the compressed pixels are {found.rows} x {found.columns} of {found.samples} samples, the header "
            f"says {said.rows} x {said.columns} of {said.samples}"
        )
    if (found.bits > 8) != (said.bits > 8) or found.bits > said.bits:
        raise UnreadableFile(f"{name}: the compressed pixels have {found.bits} bits, the header says {said.bits}")


def _quiet_gdcm() -> None:
    """Keep the decoder from writing to stderr; what goes wrong is raised."""
    import gdcm

    gdcm.Trace.DebugOff()
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()


def _rescaled(pixels: NDArray[Any], numbers: dict[str, Any], name: str) -> NDArray[np.int16]:
    slope, intercept = numbers["RescaleSlope"], numbers["RescaleIntercept"]
    if slope is None or intercept is None:
        raise NoHounsfield(f"{name}: no rescale slope and intercept")
    try:
        factor, offset = float(slope), float(intercept)
    except (TypeError, ValueError):
        raise NoHounsfield(f"{name}: the rescale slope or intercept is no number") from None
    if not (0 < abs(factor) < 1e4 and abs(offset) < 1e6):
        raise NoHounsfield(f"{name}: the rescale slope is {factor:g}, the intercept {offset:g}")
    if factor.is_integer() and offset.is_integer():
        hu = pixels.astype(np.int64 if pixels.itemsize > 2 else np.int32) * int(factor) + int(offset)
    else:
        hu = np.rint(pixels.astype(np.float64) * factor + offset)
    padded = _padding(pixels, numbers, factor, offset)
    if padded is not None:
        hu[padded] = _AIR_HU
    return np.clip(hu, -32768, 32767).astype(np.int16)


_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit", "PixelRepresentation", "BitsAllocated")


def _padding(pixels: NDArray[Any], numbers: dict[str, Any], factor: float, offset: float) -> NDArray[np.bool_] | None:
    """Mark pixels outside of the field of view, by the padding value or range; None where no header gives any.

    The value is read as the pixels are, signed or unsigned: some writers give 63536 for -2000.
    """
    value, limit, signed, bits = (numbers[key] for key in _PADDING)
    if not isinstance(value, int) or not isinstance(bits, int):
        return None
    low, high = sorted(_wrapped(v, bits, bool(signed)) for v in (value, limit if isinstance(limit, int) else value))
    hu = sorted((low * factor + offset, high * factor + offset))
    if hu[1] > _TISSUE_HU[0] and hu[0] < _TISSUE_HU[1]:
        return None
    return (pixels >= low) & (pixels <= high)


def _wrapped(value: int, bits: int, signed: bool) -> int:
    value %= 1 << bits
    return value - (1 << bits) if signed and value >> (bits - 1) else value
