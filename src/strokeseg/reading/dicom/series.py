"""Slices that form one volume: same size, orientation and spacing, sorted along their normal. Only headers are used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from strokeseg.errors import DifferentPatients, InconsistentGeometry, UnreadableFile
from strokeseg.reading.dicom.header import SliceHeader, SlicePlane
from strokeseg.reading.dicom.source_attributes import read_lossy_ratio, read_study
from strokeseg.result import Remark
from strokeseg.scan import Floats

POSITION_TOLERANCE_MM = 0.01
_COSINE_TOLERANCE = 0.005
_SPACING_TOLERANCE_MM = 0.001
_MIN_GROUP_SHARE = 0.7
_MAX_GEOMETRIES = 50
_MAX_LOSSY_RATIO = 5.0


@dataclass(frozen=True)
class Series:
    """Slices that form one volume.

    Attributes
    ----------
    slices : tuple of SliceHeader
        Sorted along their normal, one at each position.
    duplicates : tuple of (SliceHeader, int)
        Further slices at a position, each with the index of the slice in ``slices`` at the same position.
    remarks : tuple of Remark
        Slices that were left out or are missing.
    name : str, default ""
        Name that `--series` takes: the series UID, with ":2" for the second of several volumes in one series.
    """

    slices: tuple[SliceHeader, ...]
    duplicates: tuple[tuple[SliceHeader, int], ...]
    remarks: tuple[Remark, ...]
    name: str = ""

    @property
    def positions_mm(self) -> Floats:
        """LPS positions of the slices, mm, shape (slices, 3)."""
        return np.array([require_plane(header).position_mm for header in self.slices])

    @property
    def normal(self) -> Floats:
        """Unit normal of the slices, shape (3,), LPS."""
        return compute_normal(self.slices[0])

    @property
    def extent_mm(self) -> float:
        """Length of the axis that the slices cover, mm."""
        along = self.positions_mm @ self.normal
        return float(np.ptp(along)) + (require_plane(self.slices[0]).thickness_mm or 1.0)

    @property
    def drawbacks(self) -> tuple[bool, bool, bool]:
        """The drawbacks against other series: kernel for bone, contrast medium, computed from another."""
        first = self.slices[0]
        return first.sharp_kernel, any(header.contrast_medium for header in self.slices), first.derived

    def __str__(self) -> str:
        steps = np.diff(self.positions_mm @ self.normal)
        step = f", {np.median(steps):.1f} mm apart" if steps.size else ""
        names = ("kernel for bone", "contrast medium", "derived")
        drawbacks = "".join(f", {name}" for name, applies in zip(names, self.drawbacks, strict=True) if applies)
        name, part = self.name or self.slices[0].series_uid, ""
        if name != self.slices[0].series_uid:  # one of several volumes: what tells it from the others
            numbers = sorted({header.acquisition_number for header in self.slices} - {""})
            ends = sorted(float(header_z) for header_z in self.positions_mm[[0, -1], 2])
            acquisition = f", acquisition {', '.join(numbers[:4])}" if numbers else ""
            part = f"{acquisition}, z {ends[0]:.1f} to {ends[1]:.1f} mm"
        return f"{name} ({len(self.slices)} slices{step}{part}{drawbacks})"


def require_plane(header: SliceHeader) -> SlicePlane:
    """Return a slice's plane.

    Parameters
    ----------
    header : SliceHeader
        Header of the slice.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the header lacks it.
    """
    if header.plane is None and header.frame_count > 1:
        raise UnreadableFile(
            f"{header.name}: a multi-frame object that does not say where this frame lies",
            "Export the series as enhanced CT with its geometry, or as single frames, one file for each slice.",
        )
    if header.plane is None:
        raise UnreadableFile(
            f"{header.name}: its position, orientation or pixel spacing is missing or not numeric",
            "Export the series again with its geometry, or give it as pictures with --spacing.",
        )
    return header.plane


def compute_normal(header: SliceHeader) -> Floats:
    """Compute a slice's unit normal, shape (3,), LPS: row cosine x column cosine."""
    plane = require_plane(header)
    return np.cross(plane.row_cosine, plane.column_cosine)


def are_parallel(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same normal."""
    return bool(np.abs(compute_normal(one) - compute_normal(other)).max() < _COSINE_TOLERANCE)


def select_consistent(headers: list[SliceHeader]) -> Series:
    """Select the slices of one size, orientation and spacing, sorted along their normal, one at each position.

    Parameters
    ----------
    headers : list of SliceHeader
        Slices of one volume, in any order.

    Raises
    ------
    InconsistentGeometry, UnreadableFile, DifferentPatients
        `different-patients`, if no patient ID has 70 % of the slices; `geometry`, if no size, orientation and spacing
        has 70 % of the slices, the slices are not axial, or two lie side by side in one plane; `unreadable`, if a slice
        has no plane.
    """
    headers, remarks = _select_one_patient(headers)
    best, *others = _group_by_geometry(headers)
    remarks += _check_concatenations(headers)
    if others:
        other = others[0][0]
        if len(best) < _MIN_GROUP_SHARE * len(headers):
            raise InconsistentGeometry(
                f"{other.name}: {other.shape[0]} x {other.shape[1]} pixels of "
                f"{require_plane(other).pixel_spacing_mm[0]:.3f} mm; only {len(best)} of {len(headers)} slices have "
                "one size, orientation and spacing"
            )
        message = f"{len(headers) - len(best)} slices of another size, orientation or spacing were left out."
        remarks.append(Remark(code="left-out", severity="warning", message=message))
    remarks += _check_lossy_compression(best)
    normal = compute_normal(best[0])
    if abs(normal[2]) < np.cos(np.radians(45)):
        raise InconsistentGeometry(
            "the slices are sagittal or coronal, not axial", "Give the axial series as it was acquired."
        )
    best.sort(key=lambda header: (float(require_plane(header).position_mm @ normal), header.name, header.frame_index))
    return _separate_duplicates(best, normal, remarks)


def _select_one_patient(headers: list[SliceHeader]) -> tuple[list[SliceHeader], list[Remark]]:
    """Leave out slices with another patient ID than 70 % of the slices; slices without an ID stay."""
    patients = [read_study(header)[1] for header in headers]
    counts = Counter(patient for patient in patients if patient)
    if len(counts) < 2:
        return headers, []
    patient, count = counts.most_common(1)[0]
    foreign_count = counts.total() - count
    if count < _MIN_GROUP_SHARE * counts.total():
        raise DifferentPatients(
            f"the slices of one series have {len(counts)} patient IDs; none has 70 % of the slices",
            "Give the slices of one patient.",
        )
    message = f"{foreign_count} slices with another patient ID were left out."
    selected = [header for header, each in zip(headers, patients, strict=True) if each in ("", patient)]
    return selected, [Remark(code="left-out", severity="warning", message=message)]


def _check_lossy_compression(headers: list[SliceHeader]) -> list[Remark]:
    """Warn of lossy compression above the ratio for CT of the brain, or of an unknown ratio.

    The ratio is that of the consensus of the German Röntgen Society (Loose et al., RöFo 2009, 181:32): 5 to 1.
    """
    ratios = [ratio for header in headers if (ratio := read_lossy_ratio(header)) is not None]
    if not ratios or 0 < max(ratios) <= _MAX_LOSSY_RATIO:
        return []
    by = f"{max(ratios):.0f}:1" if max(ratios) else "by an unknown ratio"
    message = (
        f"{len(ratios)} slices were compressed with loss, {by} (CT of the brain: at most {_MAX_LOSSY_RATIO:.0f}:1). "
        "Small and faint hemorrhages may be lost; use the original series."
    )
    return [Remark(code="lossy-compression", severity="warning", message=message)]


def _group_by_geometry(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Group slices by size, orientation and spacing, the largest group first."""
    groups: list[list[SliceHeader]] = []
    for header in headers:
        plane = require_plane(header)
        group = next((group for group in groups if have_same_geometry(header, plane, group[0])), None)
        if group is None and len(groups) == _MAX_GEOMETRIES:
            raise InconsistentGeometry(
                f"{header.name}: the slices have more than {_MAX_GEOMETRIES} sizes, orientations and spacings"
            )
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return sorted(groups, key=len, reverse=True)


def have_same_geometry(header: SliceHeader, plane: SlicePlane, other: SliceHeader) -> bool:
    """Whether two slices can belong to one volume."""
    other_plane = require_plane(other)
    if header.shape != other.shape:
        return False
    cosines = np.concatenate(
        [plane.row_cosine - other_plane.row_cosine, plane.column_cosine - other_plane.column_cosine]
    )
    spacing = np.subtract(plane.pixel_spacing_mm, other_plane.pixel_spacing_mm)
    return bool(np.abs(cosines).max() < _COSINE_TOLERANCE and np.abs(spacing).max() < _SPACING_TOLERANCE_MM)


def _check_concatenations(headers: list[SliceHeader]) -> list[Remark]:
    """Report missing files of a concatenation; its total may not be stated, but its parts are numbered."""
    numbers: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for header in headers:
        if (part := header.concatenation) is not None:
            numbers.setdefault(part.uid, set()).add(part.number)
            totals[part.uid] = max(totals.get(part.uid, 0), part.total, part.number)
    missing_count = sum(max(0, totals[uid] - len(present)) for uid, present in numbers.items())
    if not missing_count:
        return []
    message = f"A multi-frame CT consists of {sum(totals.values())} files, of which {missing_count} are missing."
    return [Remark(code="missing-files", severity="warning", message=message)]


def _separate_duplicates(ordered: list[SliceHeader], normal: Floats, remarks: list[Remark]) -> Series:
    slices: list[SliceHeader] = []
    duplicates: list[tuple[SliceHeader, int]] = []
    for header in ordered:
        step = require_plane(header).position_mm - require_plane(slices[-1]).position_mm if slices else normal
        if abs(step @ normal) > POSITION_TOLERANCE_MM:
            slices.append(header)
        elif np.linalg.norm(step) > POSITION_TOLERANCE_MM:
            raise InconsistentGeometry(
                f"{slices[-1].name} and {header.name} lie side by side in one plane",
                "Give one series, one stack alone.",
            )
        else:
            duplicates.append((header, len(slices) - 1))
    if duplicates:
        message = f"{len(duplicates)} slices were present more than once with the same pixels; one of each was kept."
        remarks = [*remarks, Remark(code="duplicate-slices", severity="repaired", message=message)]
    return Series(tuple(slices), tuple(duplicates), tuple(remarks))


def make_conflict_error(one: SliceHeader, other: SliceHeader) -> InconsistentGeometry:
    """Return the error (`geometry`) for two slices in one plane with different pixels."""
    return InconsistentGeometry(
        f"{one.name} and {other.name} lie in one plane but show different pixels", "Give one series, one phase alone."
    )
