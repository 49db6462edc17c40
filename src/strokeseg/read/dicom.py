"""DICOM CT: headers of single files, and a series' slices with their planes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import NotCT, UnreadableFile
from strokeseg.read import series
from strokeseg.read.archive import Member
from strokeseg.read.pixels import DAMAGED, hounsfield, stream
from strokeseg.result import Remark
from strokeseg.scan import Planes, Scan

@dataclass(frozen=True)
class Header:
    """A DICOM file without its pixels, and where it came from."""

    member: Member
    data: Dataset


def header(member: Member) -> Header | None:
    """Read a file's header; None where the file is no DICOM at all.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the file says that it is DICOM and breaks off
    """
    start = member.head(132)
    marked = start[128:132] == b"DICM"
    if not marked and not _could_lack_preamble(start):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(stream(member), stop_before_pixels=True, force=not marked)
            if not marked and ("SOPClassUID" not in data and "Rows" not in data):
                return None
            str(data.get("Modality", ""))
    except DAMAGED as error:
        if not marked:
            return None
        raise UnreadableFile(f"{member.name}: the DICOM header is damaged ({type(error).__name__})") from None
    return Header(member, data)


def _could_lack_preamble(start: bytes) -> bool:
    """Whether bytes begin with group 0002 or 0008, little endian, as a file without preamble does."""
    return start[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00", b"\x02\x00\x00\x00")


def explain(members: list[Member]) -> None:
    """Say of a file that is named DICOM why it is none.

    Raises
    ------
    UnreadableFile
        `unreadable`
    """
    for member in members:
        if member.name.lower().endswith((".dcm", ".dicom", ".ima")):
            raise UnreadableFile(f"{member.name}: named like DICOM, but the mark 'DICM' is missing and no tag can be read")


def scan(headers: list[Header]) -> Scan:
    """Read one series: every slice on its own plane, in Hounsfield units.

    Raises
    ------
    NotCT, NoHounsfield, InconsistentGeometry, UnreadableFile, UnsupportedTransferSyntax
        `not-ct`, `no-hounsfield`, `geometry`, `unreadable`, `transfer-syntax`
    """
    first = headers[0].data
    modality = str(first.get("Modality", "") or "")
    if modality not in ("CT", ""):
        raise NotCT(f"the series has the modality {modality!r}, not CT")
    if int(first.get("NumberOfFrames", 1) or 1) > 1:
        raise UnreadableFile(
            f"{headers[0].member.name}: a multi-frame object",
            "Convert it to single frames, one file a slice; enhanced CT is not read yet.",
        )
    slices, remarks = series.consistent([_slice(item) for item in headers])
    volume = np.stack([hounsfield(item.source.member, item.shape) for item in slices])
    planes = Planes(
        np.array([item.position_mm for item in slices]),
        slices[0].row_cosine,
        slices[0].column_cosine,
        slices[0].pixel_spacing_mm,
        slices[0].thickness_mm,
    )
    volume, planes, uids = _inferior_first(volume, planes, tuple(item.sop_uid for item in slices))
    uid = str(first.get("SeriesInstanceUID", "") or "") or None
    return Scan(volume, planes, kind="dicom", series_uid=uid, sop_instance_uids=uids, remarks=tuple(remarks))


def _slice(item: Header) -> series.Slice:
    data, name = item.data, item.member.name
    try:
        orientation = [float(v) for v in data.ImageOrientationPatient]
        position = [float(v) for v in data.ImagePositionPatient]
        spacing = [float(v) for v in data.PixelSpacing]
        thickness = data.get("SliceThickness")
        row, column = np.array(orientation[:3]), np.array(orientation[3:])
        if len(position) != 3 or len(spacing) != 2 or not np.isfinite(orientation + position + spacing).all():
            raise ValueError
        if min(spacing) <= 0 or abs(np.linalg.norm(np.cross(row, column)) - 1) > 0.01:
            raise ValueError
        return series.Slice(
            name=name,
            source=item,
            position_mm=np.array(position),
            row_cosine=row / np.linalg.norm(row),
            column_cosine=column / np.linalg.norm(column),
            pixel_spacing_mm=(spacing[0], spacing[1]),
            shape=(int(data.Rows), int(data.Columns)),
            thickness_mm=float(thickness) if thickness else None,
            sop_uid=str(data.get("SOPInstanceUID", "") or ""),
        )
    except DAMAGED:
        raise UnreadableFile(
            f"{name}: its position, orientation, pixel spacing or size is missing or no number",
            "Export the series again with its geometry, or give it as pictures with --spacing.",
        ) from None


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


def left_out(data: Dataset) -> str | None:
    """Name what a file is, if it is no acquired axial CT slice: localizer, report, capture, reformat."""
    kind = str(data.get("SOPClassUID", "") or "")
    image_type = [str(part).upper() for part in (data.get("ImageType") or [])]
    if kind in ("1.2.840.10008.1.3.10",) or "Rows" not in data:
        return "no image"
    if kind.startswith("1.2.840.10008.5.1.4.1.1.7"):
        return "secondary capture"
    if "LOCALIZER" in image_type:
        return "localizer"
    if "MPR" in image_type or "DERIVED" in image_type and "REFORMATTED" in image_type:
        return "reformat"
    return None


def remark_left_out(reasons: list[str]) -> Remark:
    """Say how many files of which kind were left out."""
    parts = ", ".join(f"{reasons.count(reason)} x {reason}" for reason in sorted(set(reasons)))
    return Remark(code="left-out", severity="info", message=f"Files that are no slice of a CT were left out: {parts}.")
