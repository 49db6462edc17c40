"""Files into series, and a series' slices that fit together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NotCT, UnreadableFile
from strokeseg.read.header import REFORMAT, Header, Place
from strokeseg.result import Remark
from strokeseg.scan import Floats, Scan

_SAME_PLACE_MM = 0.01
_SAME_COSINE = 0.005
_SAME_SPACING_MM = 0.001
_LEAST_SHARE = 0.7


def group(headers: list[Header], others: list[str], uid: str | None) -> tuple[list[list[Header]], list[Remark]]:
    """Part the headers into series, without what is no acquired CT slice.

    Parameters
    ----------
    headers : of every DICOM file
    others : what else was found, in words
    uid : keep the series whose instance UIDs begin so; all where None

    Raises
    ------
    NotCT
        `not-ct`, if no CT slice is among them
    UnreadableFile
        `unreadable`, if no series has the UID that was asked for
    """
    reasons = [item.no_slice for item in headers]
    if None not in reasons:  # a reformat alone is better than nothing
        reasons = [None if reason == REFORMAT else reason for reason in reasons]
    out = others + [reason for reason in reasons if reason is not None]
    groups: dict[str, list[Header]] = {}
    for item, reason in zip(headers, reasons, strict=True):
        if reason is None:
            groups.setdefault(item.series_uid, []).append(item)
    if not groups:
        raise NotCT(f"no CT slice among {len(headers)} DICOM files ({', '.join(sorted(set(out)))})")
    if uid:
        groups = {key: value for key, value in groups.items() if key.startswith(uid)}
        if not groups:
            raise UnreadableFile(
                f"no CT series has a UID that begins with {uid!r}", "List them with strokeseg inspect."
            )
    return list(groups.values()), [left_out(out)] if out else []


def left_out(reasons: list[str]) -> Remark:
    """Say how many files of which kind were left out."""
    parts = ", ".join(f"{reasons.count(reason)} x {reason}" for reason in sorted(set(reasons)))
    return Remark(code="left-out", severity="info", message=f"Files that are no slice of a CT were left out: {parts}.")


def placed(item: Header) -> Place:
    """Give a slice's place.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the header lacks it
    """
    if item.frames > 1:
        raise UnreadableFile(
            f"{item.name}: a multi-frame object",
            "Convert it to single frames, one file a slice; enhanced CT is not read yet.",
        )
    if item.place is None:
        raise UnreadableFile(
            f"{item.name}: its position, orientation or pixel spacing is missing or no number",
            "Export the series again with its geometry, or give it as pictures with --spacing.",
        )
    return item.place


def consistent(headers: list[Header]) -> tuple[list[Header], list[Remark]]:
    """Keep the slices of one size, orientation and spacing, sorted along their normal.

    Raises
    ------
    InconsistentGeometry, UnreadableFile
        `geometry`, if no form dominates or the slices are not axial; `unreadable`, if one has no place
    """
    forms: list[list[Header]] = []
    for item in headers:
        place = placed(item)
        alike = next((form for form in forms if _alike(item, place, form[0])), None)
        if alike is None:
            forms.append([item])
        else:
            alike.append(item)
    forms.sort(key=len, reverse=True)
    best, *rest = forms
    remarks: list[Remark] = []
    if rest:
        odd = rest[0][0]
        if len(best) < _LEAST_SHARE * len(headers):
            raise InconsistentGeometry(
                f"{odd.name}: {odd.shape[0]} x {odd.shape[1]} pixels of {placed(odd).pixel_spacing_mm[0]:.3f} mm; only "
                f"{len(best)} of {len(headers)} slices have one size, orientation and spacing"
            )
        message = f"{len(headers) - len(best)} slices of another size, orientation or spacing were left out."
        remarks.append(Remark(code="left-out", severity="warning", message=message))
    normal = np.cross(placed(best[0]).row_cosine, placed(best[0]).column_cosine)
    if abs(normal[2]) < np.cos(np.radians(45)):
        raise InconsistentGeometry(
            "the slices are sagittal or coronal, not axial", "Give the axial series as it was acquired."
        )
    return sorted(best, key=lambda item: (float(placed(item).position_mm @ normal), item.name)), remarks


def _alike(item: Header, place: Place, other: Header) -> bool:
    """Whether two slices can be of one volume."""
    there = placed(other)
    cosines = np.concatenate([place.row_cosine - there.row_cosine, place.column_cosine - there.column_cosine])
    spacing = np.subtract(place.pixel_spacing_mm, there.pixel_spacing_mm)
    return bool(
        item.shape == other.shape and np.abs(cosines).max() < _SAME_COSINE and np.abs(spacing).max() < _SAME_SPACING_MM
    )


def once(
    names: list[str], positions_mm: Floats, normal: Floats, volume: NDArray[np.int16]
) -> tuple[list[int], list[Remark]]:
    """Give the indices of the slices without those that are there more than once.

    Parameters
    ----------
    names : of the slices, for the message
    positions_mm : (slices, 3), LPS mm, sorted along the normal
    normal : (3,)
    volume : (slices, rows, columns)

    Raises
    ------
    InconsistentGeometry
        `geometry`, if two different slices lie at one place
    """
    kept = [0]
    for index in range(1, len(names)):
        step = positions_mm[index] - positions_mm[kept[-1]]
        if abs(step @ normal) > _SAME_PLACE_MM:
            kept.append(index)
        elif np.linalg.norm(step) > _SAME_PLACE_MM or not np.array_equal(volume[index], volume[kept[-1]]):
            raise InconsistentGeometry(
                f"{names[kept[-1]]} and {names[index]} lie in one plane but show different pixels",
                "Give one series, one phase alone.",
            )
    twice = len(names) - len(kept)
    if not twice:
        return kept, []
    message = f"{twice} slices were there more than once with the same pixels; one of each was kept."
    return kept, [Remark(code="duplicate-slices", severity="repaired", message=message)]


def stands_out(scans: list[Scan]) -> Scan | None:
    """Give the one series that has at least three times the slices of every other; None where none has."""
    ordered = sorted(scans, key=lambda scan: -scan.shape[0])
    return ordered[0] if ordered[0].shape[0] >= 3 * ordered[1].shape[0] else None


def describe(scan: Scan) -> str:
    """Describe a series without anything of the patient."""
    gaps = scan.planes.gaps_mm
    step = f", {np.median(gaps):.1f} mm apart" if gaps.size else ""
    return f"{scan.series_uid} ({scan.shape[0]} slices{step})"
