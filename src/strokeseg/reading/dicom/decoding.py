"""One frame's bytes, decoded, in Hounsfield units.

The kind of compression is what the bytes show, not what the header names: the label is wrong often enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

from strokeseg.errors import NoHounsfield, StrokesegError, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.reading.dicom import codestream
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.reading.dicom.pixel_data import EncodedFrame, PixelFormat

_AIR_HU = -1024
# A padding value that would be tissue after rescaling is a mistake in the header: applied, it would tear holes.
_TISSUE_HU = (-300, 3100)
# No CT scale reaches so far up: such a number is a negative one, for padding, that was written as if unsigned.
_IMPLAUSIBLE_HU = 2**15 - 1024


def decode_hounsfield(frame: EncodedFrame, header: SliceHeader) -> NDArray[np.int16]:
    """Decode one slice's pixels to Hounsfield units, (rows, columns); padding becomes air.

    Raises
    ------
    UnreadableFile, UnsupportedTransferSyntax, NoHounsfield
        `unreadable`, `transfer-syntax`, `no-hounsfield`.
    """
    factor, offset = _check_rescale(header)
    try:
        stored = (
            _decode_compressed(frame.data, header)
            if frame.compressed
            else _decode_native(frame.data, header.pixel_format)
        )
        values = _interpret_bits(stored, header.pixel_format, offset).reshape(header.shape)
    except StrokesegError:
        raise
    except Exception as error:  # the decoders raise nearly anything on damaged bytes
        raise make_damaged_error(header.name, error) from None
    return _apply_rescale(values, header, factor, offset)


def make_damaged_error(name: str, error: Exception) -> UnreadableFile:
    """Say that a file's pixels cannot be had."""
    return UnreadableFile(
        f"{name}: the pixels are missing, damaged or cut off ({type(error).__name__})", "Copy or export the file again."
    )


def list_decoders() -> dict[str, bool]:
    """Tell of each kind of compression whether its decoder is installed."""
    import imagecodecs

    return {
        "JPEG baseline and extended": imagecodecs.JPEG8.available,
        "JPEG lossless": imagecodecs.JPEG8.available,
        "JPEG-LS": imagecodecs.JPEGLS.available,
        "JPEG 2000 and HTJ2K": imagecodecs.JPEG2K.available,
        "RLE lossless": imagecodecs.DICOMRLE.available,
    }


def _decode_native(data: bytes, stored: PixelFormat) -> NDArray[Any]:
    if stored.bits_allocated not in (8, 16, 32):
        raise ValueError(f"{stored.bits_allocated} bits a pixel")
    order = "<" if stored.little_endian else ">"
    return np.frombuffer(data, f"{order}{'i' if stored.signed else 'u'}{stored.bits_allocated // 8}")


def _decode_compressed(data: bytes, header: SliceHeader) -> NDArray[Any]:
    """Decode a code stream whose form is the header's."""
    import imagecodecs

    stored = header.pixel_format
    data = codestream.strip_jp2_boxes(data)
    form = codestream.parse_header(data)
    if form is None:
        return _decode_run_lengths(data, header)
    _check_codestream(form, header)
    if not codestream.has_end_marker(data):
        raise EOFError("no end mark")
    if form.kind == "jpeg-2000":
        values = imagecodecs.jpeg2k_decode(data, numthreads=1)
    elif form.kind == "jpeg-ls":
        values = imagecodecs.jpegls_decode(data)
    else:
        values = imagecodecs.jpeg8_decode(data)
    wide = values.astype(np.int32)
    if values.dtype.kind == "u" and stored.signed:
        return _sign_extend(wide, form.bits)
    return wide if stored.signed else wide & ((1 << form.bits) - 1)


def _decode_run_lengths(data: bytes, header: SliceHeader) -> NDArray[Any]:
    """Decode run lengths; whatever else it is is refused."""
    import imagecodecs

    stored, syntax = header.pixel_format, header.pixel_format.transfer_syntax
    if syntax == RLELossless or _has_run_length_header(data, stored):
        dtype = f"<{'i' if stored.signed else 'u'}{stored.bits_allocated // 8}"
        return np.frombuffer(imagecodecs.dicomrle_decode(data, dtype, out=stored.frame_bytes), dtype)  # and no more
    if not syntax:
        raise UnsupportedTransferSyntax(f"{header.name}: the pixels are compressed, and nothing says how")
    known = UID(syntax).name if UID(syntax).is_valid else "that is no UID"
    if codestream.is_codestream(data[:4]) or UID(syntax).name.startswith(("JPEG", "High-Throughput JPEG")):
        raise UnreadableFile(f"{header.name}: the compressed pixels do not begin as {known}")
    raise UnsupportedTransferSyntax(f"{header.name}: no decoder for the transfer syntax {known}")


def _has_run_length_header(data: bytes, stored: PixelFormat) -> bool:
    """Whether bytes begin with the header of run lengths: one segment a byte of a pixel, the first at 64."""
    count, first = (int.from_bytes(data[place : place + 4], "little") for place in (0, 4))
    return count == stored.samples * stored.bits_allocated // 8 and first == 64


def _check_codestream(found: codestream.CodestreamHeader, header: SliceHeader) -> None:
    said = header.pixel_format
    if not found.kind:
        raise UnsupportedTransferSyntax(f"{header.name}: a JPEG of a kind that is not used for CT")
    if (found.rows, found.columns, found.samples) != (said.rows, said.columns, said.samples):
        raise UnreadableFile(
            f"{header.name}: the compressed pixels are {found.rows} x {found.columns} of {found.samples} samples, the "
            f"header says {said.rows} x {said.columns} of {said.samples}"
        )
    if (found.bits > 8) != (said.bits_allocated > 8) or found.bits > said.bits_allocated:
        raise UnreadableFile(
            f"{header.name}: the compressed pixels have {found.bits} bits, the header says {said.bits_allocated}"
        )


def _sign_extend(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Read the lowest bits as a two's complement."""
    half = 1 << (bits - 1)
    return ((values & ((1 << bits) - 1)) ^ half) - half


def _interpret_bits(values: NDArray[Any], stored: PixelFormat, offset: float) -> NDArray[Any]:
    """Make numbers of stored values where the pixels do not fill their words.

    The unused bits may hold an overlay, zeros, the sign, or a padding value that would not fit otherwise. A high bit
    above its place means pixels at the upper end, if the lower bits are in fact empty. Air needs negative numbers
    unless the intercept is near -1024; that tells whether a set highest bit is a sign.
    """
    bits, unused = stored.bits_stored, stored.bits_allocated - stored.bits_stored
    if unused <= 0 or bits <= 0:
        return values
    shift = stored.high_bit - bits + 1
    if 0 < shift <= unused and not (values & ((1 << shift) - 1)).any():
        values = values >> shift
    if stored.embedded_overlay:
        wide = values.astype(np.int32)
        return _sign_extend(wide, bits) if stored.signed else wide & ((1 << bits) - 1)
    if stored.signed and offset > -500 and values.min() >= 0 and values.max() < 1 << bits:
        return _sign_extend(values.astype(np.int32), bits)
    return values


def _check_rescale(header: SliceHeader) -> tuple[float, float]:
    name, slope, intercept = header.name, header.slope, header.intercept
    if header.rescale_unit:
        raise NoHounsfield(f"{name}: the rescale gives {header.rescale_unit}, no Hounsfield units")
    if slope is None or intercept is None:
        raise NoHounsfield(f"{name}: no rescale slope and intercept")
    if slope != slope or intercept != intercept:
        raise NoHounsfield(f"{name}: the rescale slope or intercept is no number")
    if not (0 < abs(slope) < 1e4 and abs(intercept) < 1e6):
        raise NoHounsfield(f"{name}: the rescale slope is {slope:g}, the intercept {intercept:g}")
    return slope, intercept


def _apply_rescale(pixels: NDArray[Any], header: SliceHeader, factor: float, offset: float) -> NDArray[np.int16]:
    stored = header.pixel_format
    if factor.is_integer() and offset.is_integer():
        hu: NDArray[Any] = pixels.astype(np.int64 if pixels.itemsize > 2 else np.int32) * int(factor) + int(offset)
    else:
        hu = np.rint(pixels.astype(np.float64) * factor + offset)
    padded = _mark_padding(pixels, stored, factor, offset)
    if padded is not None:
        hu[padded] = _AIR_HU
    if not stored.signed:
        hu[hu >= _IMPLAUSIBLE_HU] = _AIR_HU
    return np.clip(hu, -32768, 32767).astype(np.int16)


def _mark_padding(pixels: NDArray[Any], stored: PixelFormat, factor: float, offset: float) -> NDArray[np.bool_] | None:
    """Mark pixels outside of the field of view, by the padding value or range; None where no header gives any.

    The value is read as the pixels are, signed or unsigned: some writers give 63536 for -2000.
    """
    if stored.padding is None:
        return None
    low, high = sorted(_wrap_to_bits(value, stored.bits_allocated, stored.signed) for value in stored.padding)
    hu = sorted((low * factor + offset, high * factor + offset))
    if hu[1] > _TISSUE_HU[0] and hu[0] < _TISSUE_HU[1]:
        return None
    return (pixels >= low) & (pixels <= high)


def _wrap_to_bits(value: int, bits: int, signed: bool) -> int:
    value %= 1 << bits
    return value - (1 << bits) if signed and value >> (bits - 1) else value
