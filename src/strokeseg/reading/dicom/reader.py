"""Read the DICOM series of a study: sort its files into series, choose a series, decode it, check it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from strokeseg.errors import InputError, NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading import gate, limits
from strokeseg.reading.dicom import header_reader
from strokeseg.reading.dicom.dicomdir import check_missing_files
from strokeseg.reading.dicom.header import DICOMDIR_SOP_CLASS, SliceHeader
from strokeseg.reading.dicom.series import Series, select_consistent
from strokeseg.reading.dicom.series_decoder import read_preview, read_series
from strokeseg.reading.dicom.series_grouping import group_into_series
from strokeseg.reading.dicom.series_preference import select_preferred
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.progress import Progress
from strokeseg.result import Remark
from strokeseg.scan import Scan


@dataclass
class SeriesInventory:
    """Series of a study that can be read, and why others cannot.

    Attributes
    ----------
    readable : list of Series
        Series that can be read, by their headers.
    refusals : list of InputError
        One for each series that cannot be used.
    remarks : list of Remark
        Remarks on the study's files.
    unreadable_files : dict of str to UnreadableFile
        For a series UID, the error of a file that cannot be read.
    """

    readable: list[Series]
    refusals: list[InputError]
    remarks: list[Remark]
    unreadable_files: dict[str, UnreadableFile]

    def check_complete(self, series: Series) -> None:
        """Raise UnreadableFile (`unreadable`) if a file of this series cannot be read: the volume has a hole."""
        uid = series.slices[0].series_uid
        if (error := self.unreadable_files.get(uid)) and uid:
            raise error


def sort_into_series(path: Path, files: list[InputFile], uid: str | None) -> SeriesInventory | None:
    """Sort DICOM files into series by their headers.

    Parameters
    ----------
    path : Path
        Path of the input, for error messages.
    files : list of InputFile
        All files of the input.
    uid : str or None
        Use only the series with this UID, or the only series whose UID begins with it.

    Returns
    -------
    SeriesInventory or None
        None if no file is DICOM.

    Raises
    ------
    NotCT, UnreadableFile, SeveralSeries
        `not-ct`, `unreadable`, `several-series`.
    """
    dicom_files, unreadable = _read_all_headers(files)
    slices = [header for _, headers in dicom_files for header in headers if header.sop_class != DICOMDIR_SOP_CLASS]
    if unreadable and not any(header.exclusion_reason is None for header in slices):
        raise unreadable[0][1]
    if not dicom_files:
        return None
    indexes = [file for file, headers in dicom_files if headers[0].sop_class == DICOMDIR_SOP_CLASS]
    missing = [remark for index in indexes if (remark := check_missing_files(index, files)) is not None]
    if not slices:
        raise NotCT(f"{path.name}: a DICOMDIR alone, without the images that it lists", "Give the whole folder.")
    other_files = ["other file"] * (len(files) - len(dicom_files) - len(unreadable))
    groups, remarks = group_into_series(slices, other_files, uid)
    inventory = SeriesInventory([], [], remarks + missing + _remark_unreadable(unreadable), dict(unreadable))
    for name, group in groups:
        try:
            inventory.readable.append(replace(select_consistent(group), name=name))
        except InputError as error:
            inventory.refusals.append(error)
    return inventory


def read_each_series(inventory: SeriesInventory, progress: Progress | None) -> list[Scan]:
    """Read each series that can be read.

    Parameters
    ----------
    inventory : SeriesInventory
        The study's series; refusals are added to it.
    progress : callable or None
        Called with (slices read, total slices) of each series.

    Returns
    -------
    list of Scan
        Scans that passed the gate, with a remark on refused series.

    Raises
    ------
    InputError
        The first refusal, if no series can be read.
    """
    scans: list[Scan] = []
    for series in inventory.readable:
        try:
            inventory.check_complete(series)
            scans.append(gate.check_scan(read_series(series, progress).with_remarks(*inventory.remarks)))
        except InputError as error:
            inventory.refusals.append(error)
    if not scans:
        raise inventory.refusals[0]
    return [scan.with_remarks(*_remark_refused(inventory)) for scan in scans]


def read_preferred_series(path: Path, inventory: SeriesInventory, progress: Progress | None) -> Scan:
    """Read the series that stands out by its headers; of equal series those that show no head are dropped.

    Parameters
    ----------
    path : Path
        Path of the input, for error messages.
    inventory : SeriesInventory
        The study's series; series that are refused move to its refusals.
    progress : callable or None
        Called with (slices read, total slices).

    Raises
    ------
    SeveralSeries
        `several-series`, if several series show a head and none stands out.
    InputError
        The first refusal, if no series can be read.
    """
    heads: set[int] = set()
    while inventory.readable:
        preferred = select_preferred(inventory.readable)
        if len(preferred) > 1:
            no_heads = [series for series in preferred if id(series) not in heads and not _is_head(series, inventory)]
            heads.update(id(series) for series in preferred)
            inventory.readable = [series for series in inventory.readable if series not in no_heads]
            if not no_heads:
                listed = "; ".join(str(series) for series in preferred)
                raise SeveralSeries(f"{path.name}: holds {len(preferred)} head CT series: {listed}")
            continue
        try:
            scan = gate.check_scan(read_series(preferred[0], progress).with_remarks(*inventory.remarks))
        except InputError as error:
            inventory.refusals.append(error)
            inventory.readable.remove(preferred[0])
            continue
        inventory.check_complete(preferred[0])
        return scan.with_remarks(*_remark_chosen(inventory), *_remark_refused(inventory))
    raise inventory.refusals[0]


def _read_all_headers(
    files: list[InputFile],
) -> tuple[list[tuple[InputFile, list[SliceHeader]]], list[tuple[str, UnreadableFile]]]:
    """Read the headers of all files in their order in the archive.

    Returns
    -------
    dicom_files : list of (InputFile, list of SliceHeader)
        Every DICOM file with its headers, sorted by name.
    unreadable : list of (str, UnreadableFile)
        For every DICOM file that cannot be read: its series UID, empty if unknown, and the error.
    """
    dicom_files: list[tuple[InputFile, list[SliceHeader]]] = []
    unreadable: list[tuple[str, UnreadableFile]] = []
    frame_count = 0
    for file in sorted(files, key=lambda file: file.order):
        try:
            headers = header_reader.read_headers(file, limits.MAX_FILES - frame_count)
        except UnreadableFile as error:
            file.verify()  # an error of the file system or the archive is raised: such a file is never left out
            unreadable.append((header_reader.find_series_uid(file), error))
            continue
        if headers:
            dicom_files.append((file, headers))
            frame_count += len(headers)
    return sorted(dicom_files, key=lambda pair: pair[0].name), unreadable


def _is_head(series: Series, inventory: SeriesInventory) -> bool:
    try:
        gate.check_scan(read_preview(series))
    except InputError as error:
        inventory.refusals.append(error)
        return False
    return True


def _remark_unreadable(unreadable: list[tuple[str, UnreadableFile]]) -> list[Remark]:
    if not unreadable:
        return []
    message = f"{len(unreadable)} DICOM files cannot be read and were left out. The first: {unreadable[0][1].message}"
    return [Remark(code="left-out", severity="warning", message=message)]


def _remark_chosen(inventory: SeriesInventory) -> list[Remark]:
    if len(inventory.readable) < 2:
        return []
    [preferred] = select_preferred(inventory.readable)
    others = len(inventory.readable) - 1
    message = f"Of {others + 1} CT series the one with {len(preferred.slices)} slices was chosen; {others} left out."
    return [Remark(code="chose-series", severity="info", message=message)]


def _remark_refused(inventory: SeriesInventory) -> list[Remark]:
    if not inventory.refusals:
        return []
    reasons = ", ".join(sorted(error.code for error in inventory.refusals))
    message = f"{len(inventory.refusals)} other CT series cannot be used ({reasons}) and were left out."
    return [Remark(code="left-out", severity="info", message=message)]
