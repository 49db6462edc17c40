"""Files into series, a series' slices that fit together, and the series that stands out: all by headers alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from strokeseg.errors import InconsistentGeometry, NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading.dicom.header import REFORMAT, SliceHeader, SlicePlane
from strokeseg.result import Remark
from strokeseg.scan import Floats

_POSITION_TOLERANCE_MM = 0.01
_COSINE_TOLERANCE = 0.005
_SPACING_TOLERANCE_MM = 0.001
_MIN_GROUP_SHARE = 0.7
_MANY_TIMES = 3
_MAX_VOLUMES = 200  # of one series; a perfusion has some sixty phases
_MAX_GEOMETRIES = 50
_MIN_COVERAGE = 0.7


@dataclass(frozen=True)
class Series:
    """Slices that make up one volume.

    Parameters
    ----------
    slices : tuple of SliceHeader
        Sorted along their normal, one at each place.
    twice : object
        (slice, index of the one of ``slices`` at the same place) for what is there more than once.
    remarks : tuple of Remark
        What was left out or found missing.
    """

    slices: tuple[SliceHeader, ...]
    duplicates: tuple[tuple[SliceHeader, int], ...]
    remarks: tuple[Remark, ...]

    @property
    def positions_mm(self) -> Floats:
        """(slices, 3), LPS mm."""
        return np.array([require_plane(item).position_mm for item in self.slices])

    @property
    def normal(self) -> Floats:
        """(3,), LPS."""
        return _compute_normal(self.slices[0])

    @property
    def extent_mm(self) -> float:
        """How much of the axis the slices cover."""
        along = self.positions_mm @ self.normal
        return float(np.ptp(along)) + (require_plane(self.slices[0]).thickness_mm or 1.0)

    @property
    def drawbacks(self) -> tuple[bool, bool, bool]:
        """What makes a series the worse one of a study: a kernel for bone, contrast medium, computed from another."""
        first = self.slices[0]
        return first.sharp_kernel, any(item.contrast_medium for item in self.slices), first.derived

    def __str__(self) -> str:
        steps = np.diff(self.positions_mm @ self.normal)
        step = f", {np.median(steps):.1f} mm apart" if steps.size else ""
        names = ("kernel for bone", "contrast medium", "derived")
        faults = "".join(f", {name}" for name, is_so in zip(names, self.drawbacks, strict=True) if is_so)
        return f"{self.slices[0].series_uid} ({len(self.slices)} slices{step}{faults})"


def group_into_series(
    headers: list[SliceHeader], others: list[str], uid: str | None
) -> tuple[list[list[SliceHeader]], list[Remark]]:
    """Part the headers into series, without what is no acquired CT slice.

    Parameters
    ----------
    headers : list of SliceHeader
        Of every slice in every DICOM file.
    others : list of str
        What else was found, in words.
    uid : str or None
        Keep the series of this instance UID, or the only one whose UID begins so; all where None.

    Raises
    ------
    NotCT
        `not-ct`, if no CT slice is among them.
    UnreadableFile
        `unreadable`, if no series has the UID that was asked for.
    SeveralSeries
        `several-series`, if the beginning of a UID fits several.
    """
    reasons = [item.exclusion_reason for item in headers]
    if None not in reasons:  # a reformat alone is better than nothing
        reasons = [None if reason == REFORMAT else reason for reason in reasons]
    pairs = list(zip(headers, reasons, strict=True))
    out = others + [
        reason
        for item, reason in pairs
        if reason is not None and (item.frame_index == 0 or reason in ("localizer", REFORMAT))
    ]
    groups: dict[str, list[SliceHeader]] = {}
    for item, reason in pairs:
        if reason is None:
            groups.setdefault(item.series_uid, []).append(item)
    if not groups:
        files = len({item.file.name for item in headers})
        raise NotCT(f"no CT slice among {files} DICOM files ({', '.join(sorted(set(out)))})")
    if uid:
        groups = _select_by_uid(groups, uid)
    parted = [stack for value in groups.values() for stack in _split_volumes(value)]
    return parted, [remark_left_out(out)] if out else []


def _select_by_uid(groups: dict[str, list[SliceHeader]], uid: str) -> dict[str, list[SliceHeader]]:
    """Keep the series of a UID: 1.2.3.1 is no beginning of 1.2.3.12 where there is a 1.2.3.1."""
    found = [uid] if uid in groups else sorted(key for key in groups if key.startswith(uid))
    if not found:
        raise UnreadableFile(f"no CT series has a UID that begins with {uid!r}", "List them with strokeseg inspect.")
    if len(found) > 1:
        raise SeveralSeries(f"{len(found)} CT series have UIDs that begin with {uid!r}: {'; '.join(found)}")
    return {found[0]: groups[found[0]]}


def _split_volumes(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Part a series where it holds several volumes.

    What shares a stack, an acquisition and contrast medium belongs together. One such part above the other is one
    volume, as sequential CT acquires slice by slice or slab by slab; parts that reach into each other's range are
    phases, and so are stacks of different orientation. Each part goes to the first volume that has room for it, one of
    the same contrast medium before others.
    """
    parts: dict[tuple[str, str, bool], list[SliceHeader]] = {}
    for item in slices:
        parts.setdefault((item.stack_id, item.acquisition_number, item.contrast_medium), []).append(item)
    if len(parts) == 1 or any(item.plane is None for item in slices):
        return [slices]
    normal = _compute_normal(slices[0])
    volumes: list[_VolumeUnderConstruction] = []
    for low, high, key in sorted((*_measure_range_mm(part, normal), key) for key, part in parts.items()):
        stack, _, contrast = key
        fits = [volume for volume in volumes if volume.has_room(low, stack, parts[key][0])]
        fits.sort(key=lambda volume: volume.contrast != contrast)
        if not fits:
            if len(volumes) == _MAX_VOLUMES:
                return [slices]
            fits = [_VolumeUnderConstruction(contrast)]
            volumes += fits
        fits[0].add(high, stack, parts[key])
    return [volume.slices for volume in volumes]


@dataclass
class _VolumeUnderConstruction:
    """What :func:`_stacks` has put together: up to where it reaches, and one slice of each stack in it."""

    contrast: bool
    upper_mm: float = -np.inf
    stacks: dict[str, SliceHeader] = field(default_factory=dict)
    slices: list[SliceHeader] = field(default_factory=list)

    def has_room(self, low_mm: float, stack: str, first: SliceHeader) -> bool:
        if low_mm <= self.upper_mm + _POSITION_TOLERANCE_MM:
            return False
        return stack in self.stacks or all(_are_parallel(first, other) for other in self.stacks.values())

    def add(self, high_mm: float, stack: str, part: list[SliceHeader]) -> None:
        self.upper_mm = high_mm
        self.stacks.setdefault(stack, part[0])
        self.slices += part


def _measure_range_mm(part: list[SliceHeader], normal: Floats) -> tuple[float, float]:
    along = [float(require_plane(item).position_mm @ normal) for item in part]
    return min(along), max(along)


def _are_parallel(one: SliceHeader, other: SliceHeader) -> bool:
    return bool(np.abs(_compute_normal(one) - _compute_normal(other)).max() < _COSINE_TOLERANCE)


def remark_left_out(reasons: list[str]) -> Remark:
    """Say how many files of which kind were left out."""
    parts = ", ".join(f"{reasons.count(reason)} x {reason}" for reason in sorted(set(reasons)))
    return Remark(code="left-out", severity="info", message=f"Files that are no slice of a CT were left out: {parts}.")


def require_plane(item: SliceHeader) -> SlicePlane:
    """Return a slice's place.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the header lacks it.
    """
    if item.plane is None and item.frame_count > 1:
        raise UnreadableFile(
            f"{item.name}: a multi-frame object that does not say where this frame lies",
            "Export the series as enhanced CT with its geometry, or as single frames, one file a slice.",
        )
    if item.plane is None:
        raise UnreadableFile(
            f"{item.name}: its position, orientation or pixel spacing is missing or no number",
            "Export the series again with its geometry, or give it as pictures with --spacing.",
        )
    return item.plane


def select_consistent(headers: list[SliceHeader]) -> Series:
    """Keep the slices of one size, orientation and spacing, sorted along their normal, one at each place.

    Raises
    ------
    InconsistentGeometry, UnreadableFile
        `geometry`, if no form dominates, the slices are not axial, or two lie side by side in one plane;
        `unreadable`, if one has no place.
    """
    forms: list[list[SliceHeader]] = []
    for item in headers:
        place = require_plane(item)
        alike = next((form for form in forms if _fits_volume(item, place, form[0])), None)
        if alike is None and len(forms) == _MAX_GEOMETRIES:
            raise InconsistentGeometry(
                f"{item.name}: the slices have more than {_MAX_GEOMETRIES} sizes, orientations and spacings"
            )
        if alike is None:
            forms.append([item])
        else:
            alike.append(item)
    forms.sort(key=len, reverse=True)
    best, *rest = forms
    remarks = _check_concatenations(headers)
    if rest:
        odd = rest[0][0]
        if len(best) < _MIN_GROUP_SHARE * len(headers):
            raise InconsistentGeometry(
                f"{odd.name}: {odd.shape[0]} x {odd.shape[1]} pixels of {require_plane(odd).pixel_spacing_mm[0]:.3f} mm; only "
                f"{len(best)} of {len(headers)} slices have one size, orientation and spacing"
            )
        message = f"{len(headers) - len(best)} slices of another size, orientation or spacing were left out."
        remarks.append(Remark(code="left-out", severity="warning", message=message))
    normal = _compute_normal(best[0])
    if abs(normal[2]) < np.cos(np.radians(45)):
        raise InconsistentGeometry(
            "the slices are sagittal or coronal, not axial", "Give the axial series as it was acquired."
        )
    best.sort(key=lambda item: (float(require_plane(item).position_mm @ normal), item.name, item.frame_index))
    return _drop_duplicates(best, normal, remarks)


def _compute_normal(item: SliceHeader) -> Floats:
    return np.cross(require_plane(item).row_cosine, require_plane(item).column_cosine)


def _fits_volume(item: SliceHeader, place: SlicePlane, other: SliceHeader) -> bool:
    """Whether two slices can be of one volume."""
    there = require_plane(other)
    if item.shape != other.shape:
        return False
    cosines = np.concatenate([place.row_cosine - there.row_cosine, place.column_cosine - there.column_cosine])
    spacing = np.subtract(place.pixel_spacing_mm, there.pixel_spacing_mm)
    return bool(np.abs(cosines).max() < _COSINE_TOLERANCE and np.abs(spacing).max() < _SPACING_TOLERANCE_MM)


def _check_concatenations(headers: list[SliceHeader]) -> list[Remark]:
    """Say where not all files of a concatenation are there; their total may be missing, but not their numbers."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for item in headers:
        if item.concatenation is not None:
            parts.setdefault(item.concatenation.uid, set()).add(item.concatenation.number)
            totals[item.concatenation.uid] = max(
                totals.get(item.concatenation.uid, 0), item.concatenation.total, item.concatenation.number
            )
    lost = sum(max(0, totals[uid] - len(numbers)) for uid, numbers in parts.items())
    if not lost:
        return []
    message = f"A multi-frame CT came in {sum(totals.values())} files, of which {lost} are not there."
    return [Remark(code="missing-files", severity="warning", message=message)]


def _drop_duplicates(ordered: list[SliceHeader], normal: Floats, remarks: list[Remark]) -> Series:
    slices: list[SliceHeader] = []
    twice: list[tuple[SliceHeader, int]] = []
    for item in ordered:
        step = require_plane(item).position_mm - require_plane(slices[-1]).position_mm if slices else normal
        if abs(step @ normal) > _POSITION_TOLERANCE_MM:
            slices.append(item)
        elif np.linalg.norm(step) > _POSITION_TOLERANCE_MM:
            raise InconsistentGeometry(
                f"{slices[-1].name} and {item.name} lie side by side in one plane", "Give one series, one stack alone."
            )
        else:
            twice.append((item, len(slices) - 1))
    if twice:
        message = f"{len(twice)} slices were there more than once with the same pixels; one of each was kept."
        remarks = [*remarks, Remark(code="duplicate-slices", severity="repaired", message=message)]
    return Series(tuple(slices), tuple(twice), tuple(remarks))


def make_conflict_error(one: SliceHeader, other: SliceHeader) -> InconsistentGeometry:
    """Return the refusal of two different slices in one plane."""
    return InconsistentGeometry(
        f"{one.name} and {other.name} lie in one plane but show different pixels", "Give one series, one phase alone."
    )


def select_preferred(ready: list[Series]) -> list[Series]:
    """Return the series that no other beats: one, where one stands out.

    A series beats another that it covers at least 70 % of, if it has fewer faults (:attr:`Series.faults`) and none
    that the other has not, or the same ones and three times the slices; and any that covers less than a third of what
    it covers itself with a third of its slices.
    """
    return [one for one in ready if not any(_is_preferred(other, one) for other in ready if other is not one)]


def _is_preferred(one: Series, other: Series) -> bool:
    many_more = len(one.slices) >= _MANY_TIMES * len(other.slices)
    if many_more and one.extent_mm >= _MANY_TIMES * other.extent_mm:
        return True
    if one.extent_mm < _MIN_COVERAGE * other.extent_mm:
        return False
    if one.drawbacks == other.drawbacks:
        return many_more
    return all(mine <= theirs for mine, theirs in zip(one.drawbacks, other.drawbacks, strict=True))
