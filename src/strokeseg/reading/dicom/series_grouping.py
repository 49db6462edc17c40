"""Group the slices of a study into series, and split a series that holds several volumes. Only headers are used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from strokeseg.errors import NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading.dicom.header import REFORMAT, SliceHeader
from strokeseg.reading.dicom.series import (
    POSITION_TOLERANCE_MM,
    are_parallel,
    compute_normal,
    have_same_geometry,
    require_plane,
)
from strokeseg.reading.dicom.source_attributes import read_study
from strokeseg.result import Remark
from strokeseg.scan import Floats

_PICTURE_REASONS = {"modality OT", "modality SC", "secondary capture"}
_PICTURE_REMEDY = (
    "If these are pictures of a head CT, give them as pictures: export them as PNG and give their folder, with "
    "--window and --spacing if you know them."
)
_MIN_SINGLE_SLICES = 3
_MAX_OVERLAP_SHARE = 0.5
_MAX_VOLUMES = 200  # of one series; a perfusion series has about sixty phases


def group_into_series(
    headers: list[SliceHeader], other_files: list[str], uid: str | None
) -> tuple[list[tuple[str, list[SliceHeader]]], list[Remark]]:
    """Group slices into volumes and leave out everything that is not an acquired CT slice.

    Parameters
    ----------
    headers : list of SliceHeader
        Every slice of every DICOM file.
    other_files : list of str
        Description of each other file.
    uid : str or None
        Use only the series with this UID, or the only series whose UID begins with it; None uses all series. Of a
        series that holds several volumes, ":2" behind the UID selects the second.

    Returns
    -------
    groups : list of (str, list of SliceHeader)
        Name of each volume, as `--series` takes it, and its slices.
    remarks : list of Remark
        `left-out`, if files or slices were left out; `joined-series`, if single slices were joined.

    Raises
    ------
    NotCT
        `not-ct`, if there is no CT slice.
    UnreadableFile
        `unreadable`, if no series has the UID.
    SeveralSeries
        `several-series`, if several UIDs begin with ``uid``.
    """
    reasons = [header.exclusion_reason for header in headers]
    if None not in reasons:  # only reformats: they are used
        reasons = [None if reason == REFORMAT else reason for reason in reasons]
    pairs = list(zip(headers, reasons, strict=True))
    left_out = other_files + [
        reason
        for header, reason in pairs
        if reason is not None and (header.frame_index == 0 or reason in ("localizer", REFORMAT))
    ]
    series: dict[str, list[SliceHeader]] = {}
    for header, reason in pairs:
        if reason is None:
            series.setdefault(header.series_uid, []).append(header)
    if not series:
        file_count = len({header.file.name for header in headers})
        message = f"no CT slice among {file_count} DICOM files ({', '.join(sorted(set(left_out)))})"
        raise NotCT(message, _PICTURE_REMEDY if _PICTURE_REASONS.intersection(left_out) else None)
    remarks = [remark_left_out(left_out)] if left_out else []
    number = 0
    if uid:
        uid, _, suffix = uid.partition(":")
        series = _select_by_uid(series, uid)
        number = int(suffix) if suffix.isdecimal() else 0
    elif len(series) >= _MIN_SINGLE_SLICES and _are_slices_of_one_scan(list(series.values())):
        message = f"{len(series)} series of one slice each, of one study and geometry, were joined to one volume."
        remarks.append(Remark(code="joined-series", severity="info", message=message))
        first = next(iter(series))
        series = {first: [header for slices in series.values() for header in slices]}
    groups: list[tuple[str, list[SliceHeader]]] = []
    for series_uid, slices in series.items():
        volumes, dropped = _split_volumes(slices)
        if dropped:
            message = f"Slabs that overlap were joined; {dropped} slices of their overlaps were left out."
            remarks.append(Remark(code="joined-slabs", severity="info", message=message))
        names = [f"{series_uid}:{index}" for index in range(1, len(volumes) + 1)] if len(volumes) > 1 else [series_uid]
        groups += zip(names, volumes, strict=True)
    if number:
        if not 1 <= number <= len(groups):
            message = f"the series {groups[0][1][0].series_uid} has {len(groups)} volumes, not {number}"
            raise UnreadableFile(message, "List them with strokeseg inspect.")
        groups = [groups[number - 1]]
    return groups, remarks


def _are_slices_of_one_scan(series: list[list[SliceHeader]]) -> bool:
    """Whether series of one slice each form a scan: one study, one geometry, and no two slices in one plane.

    Some archives give every slice a series UID of its own.
    """
    headers = [slices[0] for slices in series]
    if any(len(slices) > 1 for slices in series) or any(header.plane is None for header in headers):
        return False
    studies = {read_study(header) for header in headers}
    if len(studies) > 1 or not next(iter(studies))[0]:
        return False
    first, normal = headers[0], compute_normal(headers[0])
    if not all(have_same_geometry(header, require_plane(header), first) for header in headers):
        return False
    gaps = np.diff(np.sort([float(require_plane(header).position_mm @ normal) for header in headers]))
    return bool(gaps.min() > POSITION_TOLERANCE_MM)


def remark_left_out(reasons: list[str]) -> Remark:
    """Return a remark (`left-out`) with the number of files for each reason."""
    counts = ", ".join(f"{reasons.count(reason)} x {reason}" for reason in sorted(set(reasons)))
    return Remark(code="left-out", severity="info", message=f"Files that are not CT slices were left out: {counts}.")


def _select_by_uid(series: dict[str, list[SliceHeader]], uid: str) -> dict[str, list[SliceHeader]]:
    """Select a series by its UID; a complete UID goes before the beginning of a longer one."""
    matches = [uid] if uid in series else sorted(key for key in series if key.startswith(uid))
    if not matches:
        raise UnreadableFile(f"no CT series has a UID that begins with {uid!r}", "List them with strokeseg inspect.")
    if len(matches) > 1:
        raise SeveralSeries(f"{len(matches)} CT series have UIDs that begin with {uid!r}: {'; '.join(matches)}")
    return {matches[0]: series[matches[0]]}


def _split_volumes(slices: list[SliceHeader]) -> tuple[list[list[SliceHeader]], int]:
    """Split a series that holds several volumes; also return the number of slices left out of overlaps.

    Slices of one stack and one acquisition, with or without contrast medium, form a part. Parts above each other form
    one volume, because sequential CT acquires slice by slice or slab by slab. Parts whose ranges overlap are phases and
    form several volumes, and so do stacks of different orientation. Each part is added to the first volume with room
    for it; volumes with the same contrast medium go first. Slabs that overlap by less than half are no phases: of
    their overlap the slices of the lower slab are kept. Volumes are in the order of their acquisitions and positions.
    """
    parts: dict[tuple[str, str, bool], list[SliceHeader]] = {}
    for header in slices:
        parts.setdefault((header.stack_id, header.acquisition_number, header.contrast_medium), []).append(header)
    if len(parts) == 1 or any(header.plane is None for header in slices):
        return [slices], 0
    normal = compute_normal(slices[0])
    volumes: list[_Volume] = []
    dropped = 0
    for low, high, key in sorted((*_measure_range_mm(part, normal), key) for key, part in parts.items()):
        stack, _, contrast_medium = key
        fitting = [volume for volume in volumes if volume.has_room(low, stack, parts[key][0])]
        fitting.sort(key=lambda volume: volume.contrast_medium != contrast_medium)
        if not fitting:
            for volume in volumes:
                above = volume.select_above(parts[key], normal)
                if volume.contrast_medium == contrast_medium and volume.can_join(parts[key], normal) and above:
                    dropped += len(parts[key]) - len(above)
                    parts[key], fitting = above, [volume]
                    break
        if not fitting:
            if len(volumes) == _MAX_VOLUMES:
                return [slices], 0
            fitting = [_Volume(contrast_medium)]
            volumes += fitting
        fitting[0].add(low, high, stack, parts[key])
    volumes.sort(key=lambda volume: volume.sort_key)
    return [volume.slices for volume in volumes], dropped


@dataclass
class _Volume:
    """Parts of a series that :func:`_split_volumes` has joined.

    Attributes
    ----------
    contrast_medium : bool
        Whether the header of the first part names a contrast medium.
    lower_mm, upper_mm : float
        Positions of the lowest and the highest slice along the normal, mm.
    stacks : dict of str to SliceHeader
        The first slice of each stack.
    slices : list of SliceHeader
        Slices of all parts.
    """

    contrast_medium: bool
    lower_mm: float = np.inf
    upper_mm: float = -np.inf
    stacks: dict[str, SliceHeader] = field(default_factory=dict)
    slices: list[SliceHeader] = field(default_factory=list)

    def has_room(self, low_mm: float, stack: str, first: SliceHeader) -> bool:
        """Whether a part that begins at ``low_mm`` lies above this volume and is parallel to it."""
        if low_mm <= self.upper_mm + POSITION_TOLERANCE_MM:
            return False
        return stack in self.stacks or all(are_parallel(first, other) for other in self.stacks.values())

    @property
    def sort_key(self) -> tuple[int, str, float]:
        """Order among the volumes of a series: the first acquisition, then the position."""
        number = min((header.acquisition_number for header in self.slices), key=lambda each: (len(each), each))
        return len(number), number, self.lower_mm

    def can_join(self, part: list[SliceHeader], normal: Floats) -> bool:
        """Whether a part overlaps this volume's upper end by less than half, on the same planes and pixels."""
        first = self.slices[0]
        if not all(have_same_geometry(header, require_plane(header), first) for header in part):
            return False
        low, high = _measure_range_mm(part, normal)
        shorter_mm = min(high - low, self.upper_mm - self.lower_mm)
        return self.lower_mm < low and high > self.upper_mm and self.upper_mm - low < _MAX_OVERLAP_SHARE * shorter_mm

    def select_above(self, part: list[SliceHeader], normal: Floats) -> list[SliceHeader]:
        """Select the slices of a part that lie at least half a step above this volume."""
        along = np.array([float(require_plane(header).position_mm @ normal) for header in part])
        half_step_mm = float(np.median(np.diff(np.sort(along)))) / 2 if len(part) > 1 else 0.0
        limit_mm = self.upper_mm + max(half_step_mm - POSITION_TOLERANCE_MM, POSITION_TOLERANCE_MM)
        return [header for header, position_mm in zip(part, along, strict=True) if position_mm > limit_mm]

    def add(self, low_mm: float, high_mm: float, stack: str, part: list[SliceHeader]) -> None:
        """Add a part from ``low_mm`` to ``high_mm``."""
        self.lower_mm, self.upper_mm = min(self.lower_mm, low_mm), high_mm
        self.stacks.setdefault(stack, part[0])
        self.slices += part


def _measure_range_mm(part: list[SliceHeader], normal: Floats) -> tuple[float, float]:
    along = [float(require_plane(header).position_mm @ normal) for header in part]
    return min(along), max(along)
