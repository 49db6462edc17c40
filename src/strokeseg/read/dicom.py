"""A DICOM CT series: every slice on its own plane, in Hounsfield units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import TooLarge
from strokeseg.read import series
from strokeseg.read.archive import MOST_PIXELS, MOST_VOXELS
from strokeseg.read.header import Header
from strokeseg.read.pixels import hounsfield
from strokeseg.scan import Planes, Scan


def scan(headers: list[Header]) -> Scan:
    """Read one series: every slice on its own plane, in Hounsfield units.

    Parameters
    ----------
    headers : of the files of one series, in any order

    Raises
    ------
    NoHounsfield, InconsistentGeometry, UnreadableFile, UnsupportedTransferSyntax, TooLarge
        `no-hounsfield`, `geometry`, `unreadable`, `transfer-syntax`, `too-large`
    """
    slices, remarks = series.consistent(headers)
    places = [series.placed(item) for item in slices]
    first = places[0]
    positions = np.array([place.position_mm for place in places])
    volume = _volume(slices)
    normal = np.cross(first.row_cosine, first.column_cosine)
    kept, repaired = series.once([item.name for item in slices], positions, normal, volume)
    if repaired:
        volume, positions = volume[kept], positions[kept]
    planes = Planes(positions, first.row_cosine, first.column_cosine, first.pixel_spacing_mm, first.thickness_mm)
    uids = tuple(slices[index].sop_uid for index in kept)
    volume, planes, uids = _inferior_first(*_rows_across(volume, planes, uids))
    uid = slices[0].series_uid or None
    return Scan(volume, planes, kind="dicom", series_uid=uid, sop_instance_uids=uids, remarks=tuple(remarks + repaired))


def _volume(slices: list[Header]) -> NDArray[np.int16]:
    rows, columns = slices[0].shape
    if rows * columns > MOST_PIXELS or rows * columns * len(slices) > MOST_VOXELS:
        raise TooLarge(f"{len(slices)} slices of {rows} x {columns} pixels; at most {MOST_VOXELS:,} voxels are read")
    start = hounsfield(slices[0].member, slices[0].shape)
    volume = np.empty((len(slices), rows, columns), dtype=np.int16)
    volume[0] = start
    for index, item in enumerate(slices[1:], start=1):
        volume[index] = hounsfield(item.member, item.shape)
    return volume


def _rows_across(
    volume: NDArray[np.int16], planes: Planes, uids: tuple[str, ...]
) -> tuple[NDArray[np.int16], Planes, tuple[str, ...]]:
    """Let rows run from side to side where slices are stored with a quarter turn: rows and columns change places.

    That turns the normal about, so the slices, which are sorted along it, change their order too.
    """
    if abs(planes.row_cosine[0]) >= abs(planes.column_cosine[0]):
        return volume, planes, uids
    row_mm, column_mm = planes.pixel_spacing_mm
    turned = Planes(
        planes.positions_mm[::-1].copy(),
        planes.column_cosine,
        planes.row_cosine,
        (column_mm, row_mm),
        planes.thickness_mm,
    )
    return np.ascontiguousarray(volume[::-1].transpose(0, 2, 1)), turned, uids[::-1]


def _inferior_first(
    volume: NDArray[np.int16], planes: Planes, uids: tuple[str, ...]
) -> tuple[NDArray[np.int16], Planes, tuple[str, ...]]:
    """Make the normal point to the head, so that slices sorted along it begin at the foot end.

    Where it points to the feet, every row is turned end for end: the first pixel becomes the last one's place and the
    row cosine is negated. No pixel changes its place in the patient.
    """
    if planes.normal[2] >= 0:
        return volume, planes, uids
    far = (volume.shape[2] - 1) * planes.pixel_spacing_mm[1] * planes.row_cosine
    turned = Planes(
        (planes.positions_mm + far)[::-1].copy(),
        -planes.row_cosine,
        planes.column_cosine,
        planes.pixel_spacing_mm,
        planes.thickness_mm,
    )
    return np.ascontiguousarray(volume[::-1, :, ::-1]), turned, uids[::-1]
