"""Read DICOM headers: one :class:`~strokeseg.reading.dicom.header.SliceHeader` for each frame of a file."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import InputError, TooLarge, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.dicom import deflate, source_attributes
from strokeseg.reading.dicom.functional_groups import Lookup, make_frame_lookup
from strokeseg.reading.dicom.header import CT_SOP_CLASSES, ConcatenationPart, SliceHeader, SlicePlane
from strokeseg.reading.dicom.pixel_data import PixelFormat
from strokeseg.reading.input_file import InputFile

_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_PIXEL_DATA_TAGS = {b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"}
_LONG_VRS = (b"OB", b"OW", b"UN")  # value representations of pixels; their length has four bytes, after two others

_UID = re.compile(r"[0-9A-Za-z._-]{1,256}")  # wider than the standard: RSNA has ID_f10de2d018
_MODALITY = re.compile(r"[A-Z]{0,16}")
_SHORT_ID = re.compile(r"[0-9A-Za-z._-]{1,16}")
_OTHER_RESCALE_UNITS = {"OD", "MGML", "PCT", "PSEC", "Z_EFF", "ED", "EDW", "CONC", "PERCENT"}  # of RescaleType

# Names of the manufacturers' convolution kernels for bone. Siemens uses numbers, sharp from 50 on.
_SHARP_KERNEL = re.compile(
    r"[HBJTQU][A-Z]?[5-9]\d[A-Z]?(\\.*)?|BONE.*|EDGE.*|LUNG.*|SHARP.*|FC[358]\d|Y[A-D]|D|E|L", re.IGNORECASE
)
_SERIES_UID_ELEMENT = re.compile(rb"(?:\x20\0\x0e\0|\0\x20\0\x0e)(?:UI..|..\0\0)([0-9A-Za-z._-]{1,64})", re.DOTALL)

_MIN_FRAME_BYTES = 16  # no code stream is shorter
_MAX_ELEMENT_BYTES = 64 * 2**20  # longer elements are skipped


def read_headers(file: InputFile, max_frames: int | None = None) -> list[SliceHeader]:
    """Read a file's header, one for each frame; empty if the file is not DICOM.

    Parameters
    ----------
    file : InputFile
        Any file.
    max_frames : int, optional
        Frames that may still be read; 20,000 by default.

    Returns
    -------
    list of SliceHeader
        One for each frame.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the file is DICOM and damaged, or ends before its pixels.
    TooLarge
        `too-large`, above ``max_frames``, or if the file inflates to more than the limit.
    """
    start = file.read_start(132)
    has_preamble = start[128:132] == b"DICM"
    # A file without preamble begins with group 0002 or 0008.
    if not has_preamble and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return []
    try:
        with deflate.open_inflated(file) as stream:
            data = dcmread(stream, defer_size=_MAX_ELEMENT_BYTES, stop_before_pixels=True, force=not has_preamble)
            offset, length = _locate_pixel_data(stream)
        headers = _build_headers(file, data, offset, length, limits.MAX_FILES if max_frames is None else max_frames)
    except InputError:
        raise
    except Exception as error:  # pydicom reads lazily: a damaged element may raise any error, at any access
        if not has_preamble:
            return []
        raise UnreadableFile(f"{file.name}: the DICOM header is damaged ({type(error).__name__})") from None
    first = headers[0]
    if not has_preamble and not (first.sop_class or all(first.shape)):
        return []
    is_ct = first.sop_class in CT_SOP_CLASSES or (not first.sop_class and first.modality in ("CT", ""))
    if is_ct and offset == 0:
        raise UnreadableFile(f"{file.name}: the file breaks off before its pixels", "Copy or export it again.")
    return headers


def find_series_uid(file: InputFile) -> str:
    """Find the series UID in a file whose header cannot be parsed; empty if it is not near the start."""
    match = _SERIES_UID_ELEMENT.search(file.read_start(2**18))
    return match[1].decode() if match else ""


def refuse_misnamed_dicom(files: list[InputFile]) -> None:
    """Raise UnreadableFile (`unreadable`) for the first file that is named like DICOM; the files are not DICOM."""
    for file in files:
        if file.name.lower().endswith(_DICOM_ENDINGS):
            raise UnreadableFile(
                f"{file.name}: named like DICOM, but it has no 'DICM' prefix and no element can be read"
            )


def _locate_pixel_data(stream: Any) -> tuple[int, int | None]:
    """Return first byte and length of the pixel data: (0, 0) if missing; the length is None for fragments."""
    tag, value_header = stream.read(4), stream.read(4)
    if tag not in _PIXEL_DATA_TAGS or len(value_header) < 4:
        return 0, 0
    order = "little" if tag[0] == 0xE0 else "big"
    if value_header[:2] in _LONG_VRS:
        value_header = stream.read(4)
    length = int.from_bytes(value_header, order)  # type: ignore[arg-type]
    return stream.tell(), None if length == 0xFFFFFFFF else length


def _build_headers(
    file: InputFile, data: Dataset, offset: int, length: int | None, max_frames: int
) -> list[SliceHeader]:
    pixel_format = _read_pixel_format(data, offset, length)
    count = pixel_format.frame_count
    if count > max_frames:
        raise TooLarge(f"{file.name}: {count:,} frames; at most {limits.MAX_FILES:,} are read in all")
    if length and count > max(1, length // _MIN_FRAME_BYTES):
        raise UnreadableFile(f"{file.name}: {count:,} frames in {length:,} bytes of pixels", "Copy or export it again.")
    source_elements = source_attributes.select_elements(data)
    make_lookup = make_frame_lookup(data, count)
    return [
        _build_header(file, data, make_lookup(index), index, pixel_format, source_elements) for index in range(count)
    ]


def _build_header(
    file: InputFile,
    data: Dataset,
    look_up: Lookup,
    frame_index: int,
    pixel_format: PixelFormat,
    source_elements: Dataset,
) -> SliceHeader:
    # Only values of the right form are used: a wrong length in a damaged file makes one value swallow the next ones,
    # which may include the patient's name.
    def match(value: Any, pattern: re.Pattern[str]) -> str:
        text = str(value or "").strip()
        return text if pattern.fullmatch(text) else ""

    modality = str(data.get("Modality", "") or "").strip()
    image_type = look_up("FrameType", "ImageType") or []
    rescale_unit = str(look_up("RescaleType") or "").strip().upper()
    agent = str(look_up("ContrastBolusAgent") or "").strip()
    sop_class = match(data.get("SOPClassUID", ""), _UID)
    return SliceHeader(
        file=file,
        sop_class=sop_class or str(data.file_meta.get("MediaStorageSOPClassUID", "") or ""),
        sop_uid=match(data.get("SOPInstanceUID", ""), _UID),
        series_uid=match(data.get("SeriesInstanceUID", ""), _UID),
        modality=modality if _MODALITY.fullmatch(modality) else "unknown",
        image_type=tuple(str(part).upper() for part in ([image_type] if isinstance(image_type, str) else image_type)),
        shape=(pixel_format.rows, pixel_format.columns),
        frame_index=frame_index,
        frame_count=pixel_format.frame_count,
        plane=_read_plane(look_up),
        slope=_parse_number(look_up("RescaleSlope")),
        intercept=_parse_number(look_up("RescaleIntercept")),
        rescale_unit=rescale_unit if rescale_unit in _OTHER_RESCALE_UNITS else "",
        sharp_kernel=bool(_SHARP_KERNEL.fullmatch(_join_values(look_up("ConvolutionKernel")))),
        contrast_medium=bool(agent) or bool(data.get("ContrastBolusAgentSequence")),
        stack_id=match(look_up("StackID"), _SHORT_ID),
        acquisition_number=match(look_up("FrameAcquisitionNumber", "AcquisitionNumber"), _SHORT_ID),
        concatenation=_read_concatenation(data),
        pixel_format=pixel_format,
        source_elements=source_elements,
    )


def _read_pixel_format(data: Dataset, offset: int, length: int | None) -> PixelFormat:
    def count(keyword: str, default: int) -> int:
        return int(data.get(keyword, default) or default)

    bits = count("BitsAllocated", 16)
    stored_bits = count("BitsStored", bits)
    value, limit = data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit")
    padding = (value, limit if isinstance(limit, int) else value) if isinstance(value, int) else None
    syntax = str(data.file_meta.get("TransferSyntaxUID", "") or "").strip()
    _, little_endian = data.original_encoding
    return PixelFormat(
        offset=offset,
        length=length,
        transfer_syntax=syntax if _UID.fullmatch(syntax) else "",
        little_endian=little_endian is not False,
        rows=count("Rows", 0),
        columns=count("Columns", 0),
        samples=count("SamplesPerPixel", 1),
        frame_count=max(1, count("NumberOfFrames", 1)),
        bits_allocated=bits,
        bits_stored=stored_bits,
        high_bit=count("HighBit", stored_bits - 1),
        signed=bool(data.get("PixelRepresentation")),
        padding=padding,
        embedded_overlay=_has_embedded_overlay(data),
    )


def _has_embedded_overlay(data: Dataset) -> bool:
    """Whether one of up to sixteen overlays lies in the pixels' own words: such an overlay has no data of its own."""
    return any((group, 0x0010) in data and (group, 0x3000) not in data for group in range(0x6000, 0x6020, 2))


def _read_concatenation(data: Dataset) -> ConcatenationPart | None:
    uid = str(data.get("ConcatenationUID", "") or "").strip()
    if not _UID.fullmatch(uid):
        return None
    return ConcatenationPart(
        uid, int(data.get("InConcatenationNumber") or 0), int(data.get("InConcatenationTotalNumber") or 0)
    )


def _join_values(value: Any) -> str:
    parts = [value] if isinstance(value, str) else list(value or [])
    return "\\".join(str(part).strip() for part in parts)


def _parse_number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _read_plane(look_up: Lookup) -> SlicePlane | None:
    try:
        position = np.array([float(v) for v in look_up("ImagePositionPatient")])
        cosines = np.array([float(v) for v in look_up("ImageOrientationPatient")]).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in look_up("PixelSpacing"))
        thickness = float(look_up("SliceThickness") or 0)
    except Exception:  # a missing or damaged element, see read_headers
        return None
    numbers = np.concatenate([position, cosines.ravel(), [between_rows, between_columns]])
    if len(position) != 3 or not np.isfinite(numbers).all() or np.abs(position).max() > 1e5:
        return None
    if not (0 < between_rows < 100 and 0 < between_columns < 100):
        return None
    if np.abs(cosines).max() > 1.01 or abs(np.linalg.norm(np.cross(cosines[0], cosines[1])) - 1) > 0.01:
        return None
    row, column = cosines / np.linalg.norm(cosines, axis=1, keepdims=True)
    return SlicePlane(
        position, row, column, (between_rows, between_columns), thickness if 0 < thickness < 100 else None
    )
