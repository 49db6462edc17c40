"""Files into series, and a series into slices that fit together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NotCT, UnreadableFile
from strokeseg.read.pixels import hounsfield
from strokeseg.result import Remark
from strokeseg.scan import Floats, Scan

if TYPE_CHECKING:
    from strokeseg.read.dicom import Header

_SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Slice:
    """One slice's geometry, and the header that it came with."""

    name: str
    source: Any
    position_mm: Floats
    row_cosine: Floats
    column_cosine: Floats
    pixel_spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    thickness_mm: float | None
    sop_uid: str

    @property
    def form(self) -> tuple[Any, ...]:
        """What must be equal for slices to be of one volume."""
        cosines = np.round(np.concatenate([self.row_cosine, self.column_cosine]), 2) + 0.0
        return (self.shape, tuple(np.round(self.pixel_spacing_mm, 4)), tuple(cosines))


def group(headers: list[Header], others: int, uid: str | None) -> tuple[list[list[Header]], list[Remark]]:
    """Part the headers into series, without what is no acquired CT slice.

    Raises
    ------
    NotCT
        `not-ct`, if no CT slice is among them
    UnreadableFile
        `unreadable`, if no series has the UID that was asked for
    """
    from strokeseg.read.dicom import left_out, remark_left_out

    reasons = ["other file"] * others
    groups: dict[str, list[Header]] = {}
    modalities: set[str] = set()
    for item in headers:
        modality = str(item.data.get("Modality", "") or "")
        reason = left_out(item.data) or (None if modality in ("CT", "") else f"modality {modality}")
        if reason:
            reasons.append(reason)
            modalities.add(modality)
        else:
            groups.setdefault(str(item.data.get("SeriesInstanceUID", "") or ""), []).append(item)
    if not groups:
        kinds = ", ".join(sorted(set(reasons)))
        raise NotCT(f"no CT slice among {len(headers)} DICOM files ({kinds})")
    if uid is not None:
        groups = {key: value for key, value in groups.items() if key.startswith(uid)}
        if not groups:
            raise UnreadableFile(f"no CT series has a UID that begins with {uid!r}", "List them with strokeseg inspect.")
    return list(groups.values()), [remark_left_out(reasons)] if reasons else []


def consistent(slices: list[Slice]) -> tuple[list[Slice], list[Remark]]:
    """Keep the slices that fit together, once each, sorted along their normal.

    Raises
    ------
    InconsistentGeometry
        `geometry`, if no form dominates, the slices are not axial, or two different slices lie at one place
    """
    remarks: list[Remark] = []
    (form, kept), *rest = Counter(item.form for item in slices).most_common()
    if rest:
        odd = next(item for item in slices if item.form != form)
        sizes = f"{odd.name}: {odd.shape[0]} x {odd.shape[1]} pixels of {odd.pixel_spacing_mm[0]:.3f} mm"
        if kept < 0.7 * len(slices):
            raise InconsistentGeometry(
                f"{sizes}; only {kept} of {len(slices)} slices have one size, orientation and spacing"
            )
        message = f"{len(slices) - kept} slices of another size, orientation or spacing were left out."
        remarks.append(Remark(code="left-out", severity="warning", message=message))
        slices = [item for item in slices if item.form == form]
    normal = np.cross(slices[0].row_cosine, slices[0].column_cosine)
    if abs(normal[2]) < np.cos(np.radians(45)):
        raise InconsistentGeometry(
            "the slices are sagittal or coronal, not axial", "Give the axial series as it was acquired."
        )
    slices = sorted(slices, key=lambda item: float(item.position_mm @ normal))
    single, twice = _once(slices, normal)
    if twice:
        message = f"{twice} slices were there twice with the same pixels; one of each was kept."
        remarks.append(Remark(code="duplicate-slices", severity="repaired", message=message))
    return single, remarks


def _once(slices: list[Slice], normal: Floats) -> tuple[list[Slice], int]:
    kept = [slices[0]]
    for item in slices[1:]:
        if abs((item.position_mm - kept[-1].position_mm) @ normal) > _SAME_PLACE_MM:
            kept.append(item)
        elif not np.array_equal(_pixels(item), _pixels(kept[-1])):
            raise InconsistentGeometry(
                f"{kept[-1].name} and {item.name} lie at one place but show different pixels",
                "Give one series, one phase alone.",
            )
    return kept, len(slices) - len(kept)


def _pixels(item: Slice) -> NDArray[np.int16]:
    return hounsfield(item.source.member, item.shape)


def stands_out(scans: list[Scan]) -> Scan | None:
    """Give the one series that has at least three times the slices of every other; None where none has."""
    ordered = sorted(scans, key=lambda scan: -scan.shape[0])
    return ordered[0] if ordered[0].shape[0] >= 3 * ordered[1].shape[0] else None


def describe(scan: Scan) -> str:
    """Describe a series without anything of the patient."""
    gaps = scan.planes.gaps_mm
    step = f", {np.median(gaps):.1f} mm apart" if gaps.size else ""
    return f"{scan.series_uid} ({scan.shape[0]} slices{step})"
