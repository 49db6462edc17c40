"""Decode one frame to Hounsfield units.

The kind of compression is detected from the bytes, not from the transfer syntax, which is often wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

from strokeseg.errors import NoHounsfield, StrokesegError, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.reading.dicom import codestream
from strokeseg.reading.dicom.codestream import CodestreamHeader
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.reading.dicom.pixel_data import EncodedFrame, PixelFormat

_AIR_HU = -1024
# A padding value that becomes tissue after rescaling is an error in the header; to apply it would remove tissue.
_TISSUE_HU = (-300, 3100)
# No CT scale reaches these values: they are negative padding that was written as unsigned.
_IMPLAUSIBLE_HU = 2**15 - 1024


def decode_hounsfield(frame: EncodedFrame, header: SliceHeader) -> NDArray[np.int16]:
    """Decode one slice's pixels to Hounsfield units; padding becomes air.

    Parameters
    ----------
    frame : EncodedFrame
        Bytes of the slice.
    header : SliceHeader
        Header of the slice.

    Returns
    -------
    ndarray of int16, shape (rows, columns)
        Hounsfield units.

    Raises
    ------
    UnreadableFile, UnsupportedTransferSyntax, NoHounsfield
        `unreadable`, `transfer-syntax`, `no-hounsfield`.
    """
    slope, intercept = _check_rescale(header)
    try:
        stored = (
            _decode_compressed(frame.data, header)
            if frame.compressed
            else _decode_native(frame.data, header.pixel_format)
        )
        values = _interpret_bits(stored, header.pixel_format, intercept).reshape(header.shape)
    except StrokesegError:
        raise
    except Exception as error:  # the decoders may raise any error on damaged bytes, also of sizes beyond any memory
        raise make_damaged_error(header.name, error) from None
    return _apply_rescale(values, header.pixel_format, slope, intercept)


def make_damaged_error(name: str, error: Exception) -> UnreadableFile:
    """Return the error (`unreadable`) for a file whose pixels cannot be read."""
    return UnreadableFile(
        f"{name}: the pixels are missing, damaged or cut off ({type(error).__name__})", "Copy or export the file again."
    )


def list_decoders() -> dict[str, bool]:
    """Map each kind of compression to whether its decoder is installed."""
    import imagecodecs

    return {
        "JPEG baseline and extended": imagecodecs.JPEG8.available,
        "JPEG lossless": imagecodecs.JPEG8.available,
        "JPEG-LS": imagecodecs.JPEGLS.available,
        "JPEG 2000 and HTJ2K": imagecodecs.JPEG2K.available,
        "RLE lossless": imagecodecs.DICOMRLE.available,
    }


def _decode_native(data: bytes, pixel_format: PixelFormat) -> NDArray[Any]:
    if pixel_format.bits_allocated not in (8, 16, 32):
        raise ValueError(f"{pixel_format.bits_allocated} bits a pixel")
    order = "<" if pixel_format.little_endian else ">"
    return np.frombuffer(data, f"{order}{'i' if pixel_format.signed else 'u'}{pixel_format.bits_allocated // 8}")


def _decode_compressed(data: bytes, header: SliceHeader) -> NDArray[Any]:
    """Decode a code stream whose size agrees with the DICOM header."""
    import imagecodecs

    signed = header.pixel_format.signed
    data = codestream.strip_jp2_boxes(data)
    stream_header = codestream.parse_header(data)
    if stream_header is None:
        return _decode_run_lengths(data, header)
    _check_codestream(stream_header, header)
    data = codestream.strip_padding(data)
    if not codestream.has_end_marker(data):
        raise EOFError("no end marker")
    if stream_header.kind == "jpeg-2000":
        values = imagecodecs.jpeg2k_decode(data, numthreads=1)
    elif stream_header.kind == "jpeg-ls":
        values = imagecodecs.jpegls_decode(data)
    else:
        values = imagecodecs.jpeg8_decode(data)
    wide = values.astype(np.int32)
    if values.dtype.kind == "u" and signed:
        return _sign_extend(wide, stream_header.bits)
    return wide if signed else wide & ((1 << stream_header.bits) - 1)


def _decode_run_lengths(data: bytes, header: SliceHeader) -> NDArray[Any]:
    """Decode RLE; refuse anything else."""
    import imagecodecs

    pixel_format, syntax = header.pixel_format, header.pixel_format.transfer_syntax
    if syntax == RLELossless or _has_run_length_header(data, pixel_format):
        dtype = f"<{'i' if pixel_format.signed else 'u'}{pixel_format.bits_allocated // 8}"
        # `out` bounds the bytes that are decoded.
        return np.frombuffer(imagecodecs.dicomrle_decode(data, dtype, out=pixel_format.frame_bytes), dtype)
    if not syntax:
        raise UnsupportedTransferSyntax(f"{header.name}: the pixels are compressed, and the file does not say how")
    syntax_name = UID(syntax).name if UID(syntax).is_valid else "with an invalid UID"
    if codestream.is_codestream(data[:4]) or UID(syntax).name.startswith(("JPEG", "High-Throughput JPEG")):
        raise UnreadableFile(f"{header.name}: the compressed pixels do not begin as {syntax_name}")
    raise UnsupportedTransferSyntax(f"{header.name}: no decoder for the transfer syntax {syntax_name}")


def _has_run_length_header(data: bytes, pixel_format: PixelFormat) -> bool:
    """Whether bytes begin with an RLE header: one segment for each byte of a pixel, the first at byte 64."""
    count, first = (int.from_bytes(data[start : start + 4], "little") for start in (0, 4))
    return count == pixel_format.samples * pixel_format.bits_allocated // 8 and first == 64


def _check_codestream(stream_header: CodestreamHeader, header: SliceHeader) -> None:
    pixel_format = header.pixel_format
    if not stream_header.kind:
        raise UnsupportedTransferSyntax(f"{header.name}: a JPEG of a kind that is not used for CT")
    size = (stream_header.rows, stream_header.columns, stream_header.samples)
    header_size = (pixel_format.rows, pixel_format.columns, pixel_format.samples)
    if size != header_size:
        raise UnreadableFile(
            f"{header.name}: the compressed pixels are {size[0]} x {size[1]} of {size[2]} samples, the header says "
            f"{header_size[0]} x {header_size[1]} of {header_size[2]}"
        )
    bits, bits_allocated = stream_header.bits, pixel_format.bits_allocated
    if (bits > 8) != (bits_allocated > 8) or bits > bits_allocated:
        raise UnreadableFile(f"{header.name}: the compressed pixels have {bits} bits, the header says {bits_allocated}")


def _sign_extend(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Read the lowest bits as two's complement."""
    half = 1 << (bits - 1)
    return ((values & ((1 << bits) - 1)) ^ half) - half


def _interpret_bits(values: NDArray[Any], pixel_format: PixelFormat, intercept: float) -> NDArray[Any]:
    """Convert stored words to numbers if the pixels do not fill their words.

    The unused bits may hold an overlay, zeros, the sign, or a padding value that would not fit otherwise. If the high
    bit lies above its usual position and the lower bits are empty, the pixels are at the upper end of the word. Air
    needs negative numbers unless the intercept is near -1024; this shows whether a set highest bit is a sign.
    """
    bits = pixel_format.bits_stored
    unused = pixel_format.bits_allocated - bits
    if unused <= 0 or bits <= 0:
        return values
    shift = pixel_format.high_bit - bits + 1
    if 0 < shift <= unused and not (values & ((1 << shift) - 1)).any():
        values = values >> shift
    if pixel_format.embedded_overlay:
        wide = values.astype(np.int32)
        return _sign_extend(wide, bits) if pixel_format.signed else wide & ((1 << bits) - 1)
    if pixel_format.signed and intercept > -500 and values.min() >= 0 and values.max() < 1 << bits:
        return _sign_extend(values.astype(np.int32), bits)
    return values


def _check_rescale(header: SliceHeader) -> tuple[float, float]:
    """Return rescale slope and intercept; raises NoHounsfield (`no-hounsfield`) if they are missing or implausible."""
    name, slope, intercept = header.name, header.slope, header.intercept
    if header.rescale_unit:
        raise NoHounsfield(f"{name}: the rescaled values are in {header.rescale_unit}, not in Hounsfield units")
    if slope is None or intercept is None:
        raise NoHounsfield(f"{name}: no rescale slope and intercept")
    if slope != slope or intercept != intercept:
        raise NoHounsfield(f"{name}: the rescale slope or intercept is not a number")
    if not (0 < abs(slope) < 1e4 and abs(intercept) < 1e6):
        raise NoHounsfield(f"{name}: the rescale slope is {slope:g}, the intercept {intercept:g}")
    return slope, intercept


def _apply_rescale(
    pixels: NDArray[Any], pixel_format: PixelFormat, slope: float, intercept: float
) -> NDArray[np.int16]:
    if slope.is_integer() and intercept.is_integer():
        wide = pixels.astype(np.int64 if pixels.itemsize > 2 else np.int32)
        hu: NDArray[Any] = wide * int(slope) + int(intercept)
    else:
        hu = np.rint(pixels.astype(np.float64) * slope + intercept)
    is_padding = _mark_padding(pixels, pixel_format, slope, intercept)
    if is_padding is not None:
        hu[is_padding] = _AIR_HU
    if not pixel_format.signed:
        hu[hu >= _IMPLAUSIBLE_HU] = _AIR_HU
    return np.clip(hu, -32768, 32767).astype(np.int16)


def _mark_padding(
    pixels: NDArray[Any], pixel_format: PixelFormat, slope: float, intercept: float
) -> NDArray[np.bool_] | None:
    """Mark pixels outside the field of view by the padding value or range; None if the header gives none.

    The value is read like the pixels, signed or unsigned: some writers give 63536 for -2000.
    """
    if pixel_format.padding is None:
        return None
    low, high = sorted(
        _wrap_to_bits(value, pixel_format.bits_allocated, pixel_format.signed) for value in pixel_format.padding
    )
    hu = sorted((low * slope + intercept, high * slope + intercept))
    if hu[1] > _TISSUE_HU[0] and hu[0] < _TISSUE_HU[1]:
        return None
    return (pixels >= low) & (pixels <= high)


def _wrap_to_bits(value: int, bits: int, signed: bool) -> int:
    value %= 1 << bits
    return value - (1 << bits) if signed and value >> (bits - 1) else value
