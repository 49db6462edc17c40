"""DICOM headers: of every slice what is needed of it, as plain values; of the patient only what `origin` keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import InputError, TooLarge, UnreadableFile
from strokeseg.reading.dicom import deflate, source_attributes
from strokeseg.reading.dicom.pixel_data import PixelFormat
from strokeseg.reading.input_file import MAX_FILES, InputFile

_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
_CT_SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_IMAGE_SOP_CLASS_ROOT = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE_ROOT = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR_SOP_CLASS = "1.2.840.10008.1.3.10"
_PIXEL_DATA_TAGS = {b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"}
_LONG_VRS = (b"OB", b"OW", b"UN")  # what of an explicit element holds pixels: their length is four bytes, behind two

_UID = re.compile(r"[0-9A-Za-z._-]{1,256}")  # not only what the standard allows: RSNA has ID_f10de2d018
_MODALITY = re.compile(r"[A-Z]{0,16}")
_SHORT_ID = re.compile(r"[0-9A-Za-z._-]{1,16}")
_OTHER_RESCALE_UNITS = {
    "OD",
    "MGML",
    "PCT",
    "PSEC",
    "Z_EFF",
    "ED",
    "EDW",
    "CONC",
    "PERCENT",
}  # RescaleType's other quantities

# The convolution kernels that makers name for bone: Siemens gives a number, sharp from 50 on.
_SHARP_KERNEL = re.compile(
    r"[HBJTQU][A-Z]?[5-9]\d[A-Z]?(\\.*)?|BONE.*|EDGE.*|LUNG.*|SHARP.*|FC[358]\d|Y[A-D]|D|E|L", re.IGNORECASE
)

REFORMAT = "reformat"
_MIN_FRAME_BYTES = 16  # bytes: no code stream is shorter
_MAX_ELEMENT_BYTES = 64 * 2**20  # bytes of one element: beyond, it is stepped over and never read


@dataclass(frozen=True)
class SlicePlane:
    """A slice's plane: position of its first pixel and direction cosines (LPS mm), and its pixels' form."""

    position_mm: NDArray[np.float64]
    row_cosine: NDArray[np.float64]
    column_cosine: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None


@dataclass(frozen=True)
class ConcatenationPart:
    """Which of how many files of one concatenation a file is; ``total`` is 0 where it is not said."""

    uid: str
    number: int
    total: int


@dataclass(frozen=True)
class SliceHeader:
    """What a DICOM file says of one slice: the file's only one, or one frame of a multi-frame object.

    Parameters
    ----------
    member : object
        The file.
    sop_class, sop_uid, series_uid : str
        Empty where they are missing or no UID.
    modality : str
        Empty where it is missing, "unknown" where it is no modality.
    image_type : tuple of str
        In capitals.
    shape : tuple of (int, int)
        (rows, columns); (0, 0) for what is no image.
    frame, frames : object
        Number of this frame, from 0, and of all.
    place : object
        None where it is missing or no number.
    slope, intercept : float or None
        Of the rescale; None where missing, NaN where no number.
    rescale_unit : str
        Empty, or what the rescale gives instead of Hounsfield units.
    sharp, contrast, derived : object
        Kernel for bone; contrast medium named; made from other images.
    stack, acquisition : object
        Of frames that belong together, and of what was measured at once; empty where none is named.
    part : object
        Of a concatenation.
    stored : object
        How the pixels lie in the file.
    owner : object
        Undecoded, whose the slice is: see :mod:`strokeseg.reading.dicom.source_attributes`.
    """

    file: InputFile
    sop_class: str
    sop_uid: str
    series_uid: str
    modality: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    frame_index: int
    frame_count: int
    plane: SlicePlane | None
    slope: float | None
    intercept: float | None
    rescale_unit: str
    sharp_kernel: bool
    contrast_medium: bool
    stack_id: str
    acquisition_number: str
    concatenation: ConcatenationPart | None
    pixel_format: PixelFormat
    source_elements: Dataset = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file's name, and the frame's number where there are several."""
        return self.file.name if self.frame_count == 1 else f"{self.file.name}, frame {self.frame_index + 1}"

    @property
    def derived(self) -> bool:
        """Whether the slice was computed from others."""
        return "DERIVED" in self.image_type

    @property
    def exclusion_reason(self) -> str | None:
        """What the file is, if it is no acquired slice of a CT: "localizer", "secondary capture" ...; else None."""
        if self.modality not in ("CT", ""):
            return f"modality {self.modality}"
        if 0 in self.shape:
            return "no image"
        if self.sop_class.startswith(_SECONDARY_CAPTURE_ROOT):
            return "secondary capture"
        if (
            not self.modality
            and self.sop_class.startswith(_IMAGE_SOP_CLASS_ROOT)
            and self.sop_class not in _CT_SOP_CLASSES
        ):
            return "image of another modality"
        if self.pixel_format.samples > 1:
            return "colour picture"
        if "LOCALIZER" in self.image_type:
            return "localizer"
        if "MPR" in self.image_type or {"DERIVED", "REFORMATTED"} <= set(self.image_type):
            return REFORMAT
        return None


def read_headers(member: InputFile, most_frames: int = MAX_FILES) -> list[SliceHeader]:
    """Read a file's header, one for each of its frames; none where the file is no DICOM at all.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the file says that it is DICOM and breaks off before its pixels.
    TooLarge
        `too-large`, beyond 20,000 frames or those that others have left of them, or if it inflates to more than it
        may.
    """
    start = member.read_start(132)
    marked = start[128:132] == b"DICM"
    # Without preamble a file begins with the group 0002 or 0008.
    if not marked and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return []
    try:
        with deflate.open_inflated(member) as stream:
            data = dcmread(stream, defer_size=_MAX_ELEMENT_BYTES, stop_before_pixels=True, force=not marked)
            pixels = _locate_pixel_data(stream)
        found = _build_headers(member, data, *pixels, most_frames)
    except InputError:
        raise
    except Exception as error:  # pydicom reads lazily: a damaged element may raise nearly anything, at any access
        if not marked:
            return []
        raise UnreadableFile(f"{member.name}: the DICOM header is damaged ({type(error).__name__})") from None
    first = found[0]
    if not marked and not (first.sop_class or all(first.shape)):
        return []
    should_hold_pixels = first.sop_class in _CT_SOP_CLASSES or (not first.sop_class and first.modality in ("CT", ""))
    if should_hold_pixels and pixels[0] == 0:
        raise UnreadableFile(f"{member.name}: the file breaks off before its pixels", "Copy or export it again.")
    return found


def _locate_pixel_data(stream: Any) -> tuple[int, int | None]:
    """Read the head of the element that holds the pixels: where they begin, (0, 0) where they are missing; bytes."""
    tag, kind = stream.read(4), stream.read(4)
    if tag not in _PIXEL_DATA_TAGS or len(kind) < 4:
        return 0, 0
    order = "little" if tag[0] == 0xE0 else "big"
    if kind[:2] in _LONG_VRS:
        kind = stream.read(4)
    length = int.from_bytes(kind, order)  # type: ignore[arg-type]
    return stream.tell(), None if length == 0xFFFFFFFF else length


def _build_headers(
    member: InputFile, data: Dataset, offset: int, length: int | None, most_frames: int
) -> list[SliceHeader]:
    # Only what has its right form is let in: a wrong length in a damaged file makes one value swallow the next ones,
    # the patient's name among them.
    def text(keyword: str, form: re.Pattern[str]) -> str:
        value = str(data.get(keyword, "") or "").strip()
        return value if form.fullmatch(value) else ""

    stored = _read_pixel_format(data, offset, length)
    if stored.frame_count > most_frames:
        raise TooLarge(f"{member.name}: {stored.frame_count:,} frames; at most {MAX_FILES:,} are read in all")
    if length and stored.frame_count > max(1, length // _MIN_FRAME_BYTES):
        raise UnreadableFile(
            f"{member.name}: {stored.frame_count:,} frames in {length:,} bytes of pixels", "Copy or export it again."
        )
    modality = str(data.get("Modality", "") or "").strip()
    owner = source_attributes.select_elements(data)
    groups = _make_frame_lookup(data, stored.frame_count)
    made = []
    for frame in range(stored.frame_count):
        find = groups(frame)
        kinds = find("FrameType", "ImageType") or []
        unit = str(find("RescaleType") or "").strip().upper()
        made.append(
            SliceHeader(
                file=member,
                sop_class=text("SOPClassUID", _UID) or str(data.file_meta.get("MediaStorageSOPClassUID", "") or ""),
                sop_uid=text("SOPInstanceUID", _UID),
                series_uid=text("SeriesInstanceUID", _UID),
                modality=modality if _MODALITY.fullmatch(modality) else "unknown",
                image_type=tuple(str(part).upper() for part in ([kinds] if isinstance(kinds, str) else kinds)),
                shape=(stored.rows, stored.columns),
                frame_index=frame,
                frame_count=stored.frame_count,
                plane=_read_plane(find),
                slope=_parse_number(find("RescaleSlope")),
                intercept=_parse_number(find("RescaleIntercept")),
                rescale_unit=unit if unit in _OTHER_RESCALE_UNITS else "",
                sharp_kernel=bool(_SHARP_KERNEL.fullmatch(_join_values(find("ConvolutionKernel")))),
                contrast_medium=bool(str(find("ContrastBolusAgent") or "").strip())
                or bool(data.get("ContrastBolusAgentSequence")),
                stack_id=stack if _SHORT_ID.fullmatch(stack := str(find("StackID") or "").strip()) else "",
                acquisition_number=_read_acquisition_number(find),
                concatenation=_read_concatenation(data),
                pixel_format=stored,
                source_elements=owner,
            )
        )
    return made


def _read_pixel_format(data: Dataset, offset: int, length: int | None) -> PixelFormat:
    def count(keyword: str, default: int) -> int:
        return int(data.get(keyword, default) or default)

    bits = count("BitsAllocated", 16)
    stored_bits = count("BitsStored", bits)
    value, limit = data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit")
    padding = (value, limit if isinstance(limit, int) else value) if isinstance(value, int) else None
    syntax = str(data.file_meta.get("TransferSyntaxUID", "") or "").strip()
    _, little = data.original_encoding
    return PixelFormat(
        offset=offset,
        length=length,
        transfer_syntax=syntax if _UID.fullmatch(syntax) else "",
        little_endian=little is not False,
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
    """Whether an overlay, of up to sixteen, lies in the pixels' own words: it then has no data of its own."""
    return any((group, 0x0010) in data and (group, 0x3000) not in data for group in range(0x6000, 0x6020, 2))


_PER_FRAME_KEYWORDS = ("ImagePositionPatient",)
Lookup = Callable[..., Any]


def _make_frame_lookup(data: Dataset, frames: int) -> Callable[[int], Lookup]:
    """Give, for a frame, what finds a value: in the frame's own groups, those that all share, or the file itself.

    A multi-frame CT (PS3.3 A.38) keeps what differs from frame to frame in items of per-frame functional groups, what
    does not in shared ones; each group is a sequence of one item. A file of several frames without any such groups has
    no place for each frame, and its own place is that of none of them.
    """
    alone = frames == 1 and "PerFrameFunctionalGroupsSequence" not in data
    shared = _flatten_groups((data.get("SharedFunctionalGroupsSequence") or [None])[0])
    own = data.get("PerFrameFunctionalGroupsSequence") or []

    def of(frame: int) -> Lookup:
        mine = _flatten_groups(own[frame]) if frame < len(own) else {}

        def find(*keywords: str) -> Any:
            for place in (mine, shared):
                for keyword in keywords:
                    if keyword in place:
                        return place[keyword].get(keyword)
            if not alone and keywords[0] in _PER_FRAME_KEYWORDS:
                return None
            return next((data.get(keyword) for keyword in keywords if keyword in data), None)

        return find

    return of


def _flatten_groups(groups: Dataset | None) -> dict[str, Dataset]:
    """Give, for each keyword in any functional group's item, that item."""
    found: dict[str, Dataset] = {}
    for element in groups or ():
        if element.VR == "SQ" and len(element.value) > 0:
            item = element.value[0]
            found.update({keyword: item for keyword in item.dir()})
    return found


def _read_acquisition_number(find: Lookup) -> str:
    number = str(find("FrameAcquisitionNumber", "AcquisitionNumber") or "").strip()
    return number if _SHORT_ID.fullmatch(number) else ""


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


def _read_plane(find: Lookup) -> SlicePlane | None:
    try:
        position = np.array([float(v) for v in find("ImagePositionPatient")])
        cosines = np.array([float(v) for v in find("ImageOrientationPatient")]).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in find("PixelSpacing"))
        thickness = float(find("SliceThickness") or 0)
    except Exception:  # as above
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


_SERIES_UID_ELEMENT = re.compile(rb"(?:\x20\0\x0e\0|\0\x20\0\x0e)(?:UI..|..\0\0)([0-9A-Za-z._-]{1,64})", re.DOTALL)


def find_series_uid(member: InputFile) -> str:
    """Find the UID of a file's series where the header cannot be parsed; empty where it is not near its start."""
    found = _SERIES_UID_ELEMENT.search(member.read_start(2**18))
    return found[1].decode() if found else ""


def refuse_misnamed_dicom(members: list[InputFile]) -> None:
    """Say of a file that is named DICOM why it is none.

    Raises
    ------
    UnreadableFile
        `unreadable`.
    """
    for member in members:
        if member.name.lower().endswith(_DICOM_ENDINGS):
            raise UnreadableFile(f"{member.name}: named like DICOM, but it has no mark 'DICM' and no tag can be read")
