"""One DICOM file's header: what is needed of it, as plain values, and nothing of the patient."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import UnreadableFile
from strokeseg.read.archive import Member

_ENDINGS = (".dcm", ".dicom", ".ima")
_CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_IMAGES = "1.2.840.10008.5.1.4.1.1."
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_GROUP = (b"\xe0\x7f", b"\x7f\xe0")
_DEFLATED = "1.2.840.10008.1.2.1.99"

_UID = re.compile(r"[0-9A-Za-z._-]{1,256}")  # not only what the standard allows: RSNA has ID_f10de2d018
_MODALITY = re.compile(r"[A-Z]{0,16}")

REFORMAT = "reformat"


@dataclass(frozen=True)
class Place:
    """A slice's plane: position of its first pixel and direction cosines (LPS mm), and its pixels' form."""

    position_mm: NDArray[np.float64]
    row_cosine: NDArray[np.float64]
    column_cosine: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None


@dataclass(frozen=True)
class Header:
    """What a DICOM file says of itself.

    Parameters
    ----------
    member : the file
    sop_class, sop_uid, series_uid : empty where they are missing or no UID
    modality : empty where it is missing, "unknown" where it is no modality
    image_type : in capitals
    shape : (rows, columns); (0, 0) for what is no image
    frames : number of frames
    place : None where it is missing or no number
    """

    member: Member
    sop_class: str
    sop_uid: str
    series_uid: str
    modality: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    frames: int
    place: Place | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.member.name

    @property
    def no_slice(self) -> str | None:
        """What the file is, if it is no acquired slice of a CT: "localizer", "secondary capture" ...; else None."""
        if self.modality not in ("CT", ""):
            return f"modality {self.modality}"
        if 0 in self.shape:
            return "no image"
        if self.sop_class.startswith(_CAPTURE):
            return "secondary capture"
        if not self.modality and self.sop_class.startswith(_IMAGES) and self.sop_class not in _CT:
            return "image of another modality"
        if "LOCALIZER" in self.image_type:
            return "localizer"
        if "MPR" in self.image_type or {"DERIVED", "REFORMATTED"} <= set(self.image_type):
            return REFORMAT
        return None


def read(member: Member) -> Header | None:
    """Read a file's header; None where the file is no DICOM at all.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the file says that it is DICOM and breaks off before its pixels
    """
    start = member.head(132)
    marked = start[128:132] == b"DICM"
    # Without preamble a file begins with the group 0002 or 0008.
    if not marked and start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return None
    try:
        with member.open() as stream:
            data = dcmread(stream, stop_before_pixels=True, force=not marked)
            meta = data.file_meta
            whole = stream.read(2) in _PIXEL_GROUP or str(meta.get("TransferSyntaxUID", "")) == _DEFLATED
            found = _values(member, data, str(meta.get("MediaStorageSOPClassUID", "") or ""))
    except Exception as error:  # pydicom reads lazily: a damaged element may raise nearly anything, at any access
        if not marked:
            return None
        raise UnreadableFile(f"{member.name}: the DICOM header is damaged ({type(error).__name__})") from None
    if not marked and not (found.sop_class or all(found.shape)):
        return None
    should_hold_pixels = found.sop_class in _CT or (not found.sop_class and found.modality in ("CT", ""))
    if should_hold_pixels and not whole:
        raise UnreadableFile(f"{member.name}: the file breaks off before its pixels", "Copy or export it again.")
    return found


def _values(member: Member, data: Dataset, media_class: str) -> Header:
    # Only what has its right form is let in: a wrong length in a damaged file makes one value swallow the next ones,
    # the patient's name among them.
    def uid(keyword: str) -> str:
        value = str(data.get(keyword, "") or "").strip()
        return value if _UID.fullmatch(value) else ""

    def count(keyword: str, default: int) -> int:
        return int(data.get(keyword, default) or default)

    kinds = data.get("ImageType") or []
    modality = str(data.get("Modality", "") or "").strip()
    return Header(
        member=member,
        sop_class=uid("SOPClassUID") or media_class,
        sop_uid=uid("SOPInstanceUID"),
        series_uid=uid("SeriesInstanceUID"),
        modality=modality if _MODALITY.fullmatch(modality) else "unknown",
        image_type=tuple(str(part).upper() for part in ([kinds] if isinstance(kinds, str) else kinds)),
        shape=(count("Rows", 0), count("Columns", 0)),
        frames=count("NumberOfFrames", 1),
        place=_place(data),
    )


def _place(data: Dataset) -> Place | None:
    try:
        position = np.array([float(v) for v in data.ImagePositionPatient])
        cosines = np.array([float(v) for v in data.ImageOrientationPatient]).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in data.PixelSpacing)
        thickness = float(data.get("SliceThickness") or 0)
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
    return Place(position, row, column, (between_rows, between_columns), thickness if 0 < thickness < 100 else None)


def explain(members: list[Member]) -> None:
    """Say of a file that is named DICOM why it is none.

    Raises
    ------
    UnreadableFile
        `unreadable`
    """
    for member in members:
        if member.name.lower().endswith(_ENDINGS):
            raise UnreadableFile(f"{member.name}: named like DICOM, but it has no mark 'DICM' and no tag can be read")
