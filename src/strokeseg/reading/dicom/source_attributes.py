"""Attributes of patient, study and frames that DICOM objects made from a series repeat (PS3.3 A.51, A.35).

Headers keep these elements undecoded; they are decoded once, for the series that is read. Only values of the right form
are used: a wrong length in a damaged file makes one value swallow the next ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from strokeseg.dicom_source import DicomSource, SourceFrame
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.scan import Floats

_UID = r"[0-9A-Za-z._-]{1,256}"  # wider than the standard: RSNA has ID_f10de2d018
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
_LOSSY_RATIO = "LossyImageCompressionRatio"


def _get_tag(keyword: str) -> BaseTag:
    number = tag_for_keyword(keyword)
    assert number is not None
    return BaseTag(number)


_TAGS = {
    keyword: _get_tag(keyword) for keyword in ("SpecificCharacterSet", *_PATTERNS, _FRAME_OF_REFERENCE, _LOSSY_RATIO)
}


def read_study(header: SliceHeader) -> tuple[str, str]:
    """Return the study UID and the patient ID of a slice, to compare them; empty where missing or invalid."""

    def read(keyword: str) -> str:
        text = _read_text(header.source_elements, keyword)
        return text if re.fullmatch(_PATTERNS[keyword], text) else ""

    return read("StudyInstanceUID"), read("PatientID")


def read_lossy_ratio(header: SliceHeader) -> float | None:
    """Return the ratio of a slice's lossy compression: 0 if it is not stated, None if there was none."""
    if _read_text(header.source_elements, "LossyImageCompression") != "01":
        return None
    try:
        value = header.source_elements.get(_LOSSY_RATIO)
        values = [float(each) for each in (value if isinstance(value, MultiValue) else [value])]
    except Exception:  # missing, or pydicom cannot decode it
        return 0.0
    ratio = float(np.prod(values))  # of several compressions, one after the other
    return ratio if np.isfinite(ratio) else 0.0


def select_elements(data: Dataset) -> Dataset:
    """Return the undecoded elements of a header that :func:`build_source` reads."""
    selected = Dataset()
    for tag in _TAGS.values():
        element = data.get_item(tag, keep_deferred=True)
        if element is not None:
            selected[tag] = element
    return selected


def build_source(slices: Sequence[SliceHeader], *, transposed: bool, mirrored: bool) -> DicomSource:
    """Collect what objects made from a series' slices must repeat.

    Parameters
    ----------
    slices : sequence of SliceHeader
        In the order of the scan's slices.
    transposed, mirrored : bool
        How the scan's pixels follow from the stored ones; see :class:`~strokeseg.dicom_source.DicomSource`.

    Returns
    -------
    DicomSource
        Attributes and frames of the series.
    """
    first, plane = slices[0], slices[0].plane
    assert plane is not None
    attributes, malformed = _read_attributes(first.source_elements)
    element_sets = list({id(header.source_elements): header.source_elements for header in slices}.values())
    differing = [
        keyword
        for keyword in _SAME_FOR_ALL_SLICES
        if len({_read_text(elements, keyword) for elements in element_sets}) > 1
    ]
    references = {_read_text(elements, _FRAME_OF_REFERENCE) for elements in element_sets}
    reference = references.pop() if len(references) == 1 else ""
    return DicomSource(
        attributes=attributes,
        malformed=malformed,
        frame_of_reference_uid=reference if re.fullmatch(_UID, reference) else "",
        frames=tuple(_build_frame(header) for header in slices),
        row_cosine=_to_triple(plane.row_cosine),
        column_cosine=_to_triple(plane.column_cosine),
        pixel_spacing_mm=plane.pixel_spacing_mm,
        thickness_mm=plane.thickness_mm,
        transposed=transposed,
        mirrored=mirrored,
        fault=f"its slices differ in {' and '.join(differing)}" if differing else "",
    )


def _read_attributes(elements: Dataset) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return (keyword, text) of valid attributes, and the keywords of malformed ones."""
    valid, malformed = [], []
    for keyword, pattern in _PATTERNS.items():
        text = _read_text(elements, keyword)
        if text and re.fullmatch(pattern, text):
            valid.append((keyword, text))
        elif text:
            malformed.append(keyword)
    return tuple(valid), tuple(malformed)


def _read_text(elements: Dataset, keyword: str) -> str:
    r"""Return a value as text: "\" if it cannot be decoded or has several values, which no pattern allows."""
    try:
        value = elements.get(keyword)
    except Exception:  # pydicom reads lazily: a damaged element may raise any error
        return "\\"
    if value is None:
        return ""
    return "\\" if isinstance(value, MultiValue) else str(value).strip(" \0")


def _build_frame(header: SliceHeader) -> SourceFrame:
    assert header.plane is not None
    number = header.frame_index + 1 if header.frame_count > 1 else None
    return SourceFrame(header.sop_class, header.sop_uid, number, _to_triple(header.plane.position_mm))


def _to_triple(values: Floats) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
