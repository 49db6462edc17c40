"""Whose a series is and which objects its slices were: what objects made from it must repeat (PS3.3 A.51, A.35).

Headers keep these elements undecoded; they are read once, for the series that was chosen. Only what has its right form
is let through: a wrong length in a damaged file makes one value swallow the next ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from strokeseg.scan import DicomSource, Floats, SourceFrame

if TYPE_CHECKING:
    from strokeseg.reading.dicom.header import SliceHeader

_UID = r"[0-9A-Za-z._-]{1,256}"  # as everywhere: RSNA has ID_f10de2d018
_TEXT = r"[^\\\x00-\x1f\x7f]"
_NAME = r"[^\\=\x00-\x1f\x7f]{0,64}"
_PATTERNS = {
    "PatientName": rf"{_NAME}(={_NAME}){{0,2}}",
    "PatientID": _TEXT + "{0,64}",
    "IssuerOfPatientID": _TEXT + "{0,64}",
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "PatientIdentityRemoved": "YES|NO",
    "DeidentificationMethod": _TEXT + "{0,64}",
    "StudyInstanceUID": _UID,
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "StudyID": _TEXT + "{0,16}",
    "StudyDescription": _TEXT + "{0,64}",
    "AccessionNumber": _TEXT + "{0,16}",
    "ReferringPhysicianName": rf"{_NAME}(={_NAME}){{0,2}}",
    "LossyImageCompression": "00|01",
}
_SAME_FOR_ALL_SLICES = ("StudyInstanceUID", "PatientID")
_FRAME_OF_REFERENCE = "FrameOfReferenceUID"


def _get_tag(keyword: str) -> BaseTag:
    number = tag_for_keyword(keyword)
    assert number is not None
    return BaseTag(number)


_TAGS = {keyword: _get_tag(keyword) for keyword in ("SpecificCharacterSet", *_PATTERNS, _FRAME_OF_REFERENCE)}


def select_elements(data: Dataset) -> Dataset:
    """Return a header's elements that :func:`source` reads, undecoded."""
    slim = Dataset()
    for tag in _TAGS.values():
        element = data.get_item(tag, keep_deferred=True)
        if element is not None:
            slim[tag] = element
    return slim


def build_source(slices: Sequence[SliceHeader], *, transposed: bool, mirrored: bool) -> DicomSource:
    """Say what objects made from a series' slices must repeat.

    Parameters
    ----------
    slices : sequence of SliceHeader
        In the scan's order.
    transposed, mirrored : bool
        How the scan's pixels came from the stored ones.
    """
    first, place = slices[0], slices[0].plane
    assert place is not None
    attributes, malformed = _read_attributes(first.source_elements)
    owners = list({id(item.source_elements): item.source_elements for item in slices}.values())  # one a file
    differ = [keyword for keyword in _SAME_FOR_ALL_SLICES if len({_read_text(owner, keyword) for owner in owners}) > 1]
    references = {_read_text(owner, _FRAME_OF_REFERENCE) for owner in owners}
    reference = references.pop() if len(references) == 1 else ""
    return DicomSource(
        attributes=attributes,
        malformed=malformed,
        frame_of_reference_uid=reference if re.fullmatch(_UID, reference) else "",
        frames=tuple(_build_frame(item) for item in slices),
        row_cosine=_to_triple(place.row_cosine),
        column_cosine=_to_triple(place.column_cosine),
        pixel_spacing_mm=place.pixel_spacing_mm,
        thickness_mm=place.thickness_mm,
        transposed=transposed,
        mirrored=mirrored,
        fault=f"its slices differ in {' and '.join(differ)}" if differ else "",
    )


def _read_attributes(owner: Dataset) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    found, malformed = [], []
    for keyword, form in _PATTERNS.items():
        text = _read_text(owner, keyword)
        if text and re.fullmatch(form, text):
            found.append((keyword, text))
        elif text:
            malformed.append(keyword)
    return tuple(found), tuple(malformed)


def _read_text(owner: Dataset, keyword: str) -> str:
    r"""Return a value as text: "\" where it cannot be decoded or there are several, which no form allows."""
    try:
        value = owner.get(keyword)
    except Exception:  # as in headers: pydicom reads lazily, and a damaged element may raise nearly anything
        return "\\"
    if value is None:
        return ""
    return "\\" if isinstance(value, MultiValue) else str(value).strip(" \0")


def _build_frame(item: SliceHeader) -> SourceFrame:
    assert item.plane is not None
    number = item.frame_index + 1 if item.frame_count > 1 else None
    return SourceFrame(item.sop_class, item.sop_uid, number, _to_triple(item.plane.position_mm))


def _to_triple(values: Floats) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
