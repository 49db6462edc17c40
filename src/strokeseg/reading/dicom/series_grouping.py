"""Group the slices of a study into series, and split a series that holds several volumes. Only headers are used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from strokeseg.errors import NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading.dicom.header import REFORMAT, SliceHeader
from strokeseg.reading.dicom.series import POSITION_TOLERANCE_MM, are_parallel, compute_normal, require_plane
from strokeseg.result import Remark
from strokeseg.scan import Floats

_MAX_VOLUMES = 200  # of one series; a perfusion series has about sixty phases


def group_into_series(
    headers: list[SliceHeader], other_files: list[str], uid: str | None
) -> tuple[list[list[SliceHeader]], list[Remark]]:
    """Group slices into volumes and leave out everything that is not an acquired CT slice.

    Parameters
    ----------
    headers : list of SliceHeader
        Every slice of every DICOM file.
    other_files : list of str
        Description of each other file.
    uid : str or None
        Use only the series with this UID, or the only series whose UID begins with it; None uses all series.

    Returns
    -------
    groups : list of list of SliceHeader
        Slices of each volume.
    remarks : list of Remark
        `left-out`, if files were left out.

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
        raise NotCT(f"no CT slice among {file_count} DICOM files ({', '.join(sorted(set(left_out)))})")
    if uid:
        series = _select_by_uid(series, uid)
    groups = [volume for slices in series.values() for volume in _split_volumes(slices)]
    return groups, [remark_left_out(left_out)] if left_out else []


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


def _split_volumes(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Split a series that holds several volumes.

    Slices of one stack and one acquisition, with or without contrast medium, form a part. Parts above each other form
    one volume, because sequential CT acquires slice by slice or slab by slab. Parts whose ranges overlap are phases and
    form several volumes, and so do stacks of different orientation. Each part is added to the first volume with room
    for it; volumes with the same contrast medium go first.
    """
    parts: dict[tuple[str, str, bool], list[SliceHeader]] = {}
    for header in slices:
        parts.setdefault((header.stack_id, header.acquisition_number, header.contrast_medium), []).append(header)
    if len(parts) == 1 or any(header.plane is None for header in slices):
        return [slices]
    normal = compute_normal(slices[0])
    volumes: list[_Volume] = []
    for low, high, key in sorted((*_measure_range_mm(part, normal), key) for key, part in parts.items()):
        stack, _, contrast_medium = key
        fitting = [volume for volume in volumes if volume.has_room(low, stack, parts[key][0])]
        fitting.sort(key=lambda volume: volume.contrast_medium != contrast_medium)
        if not fitting:
            if len(volumes) == _MAX_VOLUMES:
                return [slices]
            fitting = [_Volume(contrast_medium)]
            volumes += fitting
        fitting[0].add(high, stack, parts[key])
    return [volume.slices for volume in volumes]


@dataclass
class _Volume:
    """Parts of a series that :func:`_split_volumes` has joined.

    Attributes
    ----------
    contrast_medium : bool
        Whether the header of the first part names a contrast medium.
    upper_mm : float
        Position of the highest slice along the normal, mm.
    stacks : dict of str to SliceHeader
        The first slice of each stack.
    slices : list of SliceHeader
        Slices of all parts.
    """

    contrast_medium: bool
    upper_mm: float = -np.inf
    stacks: dict[str, SliceHeader] = field(default_factory=dict)
    slices: list[SliceHeader] = field(default_factory=list)

    def has_room(self, low_mm: float, stack: str, first: SliceHeader) -> bool:
        """Whether a part that begins at ``low_mm`` lies above this volume and is parallel to it."""
        if low_mm <= self.upper_mm + POSITION_TOLERANCE_MM:
            return False
        return stack in self.stacks or all(are_parallel(first, other) for other in self.stacks.values())

    def add(self, high_mm: float, stack: str, part: list[SliceHeader]) -> None:
        """Add a part that ends at ``high_mm``."""
        self.upper_mm = high_mm
        self.stacks.setdefault(stack, part[0])
        self.slices += part


def _measure_range_mm(part: list[SliceHeader], normal: Floats) -> tuple[float, float]:
    along = [float(require_plane(header).position_mm @ normal) for header in part]
    return min(along), max(along)
