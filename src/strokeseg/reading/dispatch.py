"""What a path holds, and which reader takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from strokeseg.errors import InputError, NotCT, SeveralSeries, UnreadableFile, UnsafeArchive
from strokeseg.reading import gate, input_file
from strokeseg.reading.archives import archive as packed
from strokeseg.reading.dicom import dicomdir, header, series, volume
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.reading.dicom.series import Series
from strokeseg.reading.dicom.volume import Progress
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.library_output import silence_libraries
from strokeseg.reading.pictures import picture_stack
from strokeseg.reading.volumes import volume_file
from strokeseg.result import Remark
from strokeseg.scan import Scan

Window = tuple[float, float]
Spacing = tuple[float, float, float]


def read_all_series(
    path: Path, uid: str | None, window: Window | None, spacing_mm: Spacing | None, progress: Progress | None = None
) -> list[Scan]:
    """Read and gate every series; see :func:`strokeseg.reading.read`."""
    with silence_libraries(), _list_files(path) as members:
        found = _sort_into_series(path, members, uid)
        if found is None:
            return [_read_volume_or_pictures(path, members, uid, window, spacing_mm)]
        return [
            scan.with_remarks(*_remark_unused_options(window=window, spacing_mm=spacing_mm))
            for scan in _read_each_series(found, progress)
        ]


def read_one_series(
    path: Path, uid: str | None, window: Window | None, spacing_mm: Spacing | None, progress: Progress | None = None
) -> Scan:
    """Read, gate and choose one series; see :func:`strokeseg.reading.read_one`."""
    with silence_libraries(), _list_files(path) as members:
        found = _sort_into_series(path, members, uid)
        if found is None:
            return _read_volume_or_pictures(path, members, uid, window, spacing_mm)
        scan = _read_preferred_series(path, found, progress)
        return scan.with_remarks(*_remark_unused_options(window=window, spacing_mm=spacing_mm))


@dataclass
class _DicomStudyContents:
    """What the headers of a study's files say: series that can be read, and why others cannot.

    ``broken`` : of a series, by its UID, the error of a file that cannot be read
    """

    readable: list[Series]
    refusals: list[InputError]
    remarks: list[Remark]
    unreadable_files: dict[str, UnreadableFile]

    def check_complete(self, one: Series) -> None:
        """Raise the error of a file of this series that cannot be read: a volume with a hole is none."""
        if (error := self.unreadable_files.get(one.slices[0].series_uid)) and one.slices[0].series_uid:
            raise error


def _sort_into_series(path: Path, members: list[InputFile], uid: str | None) -> _DicomStudyContents | None:
    """Sort DICOM files into series by their headers; None where there are none."""
    read, broken = _read_all_headers(members)
    slices = [item for _, its in read for item in its if item.sop_class != header.DICOMDIR_SOP_CLASS]
    if broken and not any(item.exclusion_reason is None for item in slices):
        raise broken[0][1]
    if not read:
        return None
    indexes = [member for member, its in read if its[0].sop_class == header.DICOMDIR_SOP_CLASS]
    missing = [remark for index in indexes if (remark := dicomdir.check_missing_files(index, members)) is not None]
    if not slices:
        raise NotCT(f"{path.name}: a DICOMDIR alone, without the images that it lists", "Give the whole folder.")
    others = ["other file"] * (len(members) - len(read) - len(broken))
    groups, remarks = series.group_into_series(slices, others, uid)
    found = _DicomStudyContents([], [], remarks + missing + _remark_unreadable(broken), dict(broken))
    for group in groups:
        try:
            found.readable.append(series.select_consistent(group))
        except InputError as error:
            found.refusals.append(error)
    return found


def _read_all_headers(
    members: list[InputFile],
) -> tuple[list[tuple[InputFile, list[SliceHeader]]], list[tuple[str, UnreadableFile]]]:
    """Read every file's headers, in the order in which they lie in their archive; give them by name.

    Beside them, of what says that it is DICOM and cannot be read: its series, as far as that is known, and the error.
    """
    read: list[tuple[InputFile, list[SliceHeader]]] = []
    broken: list[tuple[str, UnreadableFile]] = []
    frames = 0
    for member in sorted(members, key=lambda member: member.order):
        try:
            slices = header.read_headers(member, input_file.MAX_FILES - frames)
        except UnreadableFile as error:
            member.verify()  # what the system or a damaged archive does not give is never left out
            broken.append((header.find_series_uid(member), error))
            continue
        if slices:
            read.append((member, slices))
            frames += len(slices)
    return sorted(read, key=lambda pair: pair[0].name), broken


def _remark_unreadable(broken: list[tuple[str, UnreadableFile]]) -> list[Remark]:
    if not broken:
        return []
    message = f"{len(broken)} DICOM files cannot be read and were left out. The first: {broken[0][1].message}"
    return [Remark(code="left-out", severity="warning", message=message)]


def _read_each_series(found: _DicomStudyContents, progress: Progress | None) -> list[Scan]:
    """Read each series that can be read; the first refusal is raised if none can, and remarked otherwise."""
    scans: list[Scan] = []
    for one in found.readable:
        try:
            found.check_complete(one)
            scans.append(gate.check_scan(volume.read_series(one, progress).with_remarks(*found.remarks)))
        except InputError as error:
            found.refusals.append(error)
    if not scans:
        raise found.refusals[0]
    return [scan.with_remarks(*_remark_refused(found)) for scan in scans]


def _read_preferred_series(path: Path, found: _DicomStudyContents, progress: Progress | None) -> Scan:
    """Read the series that stands out by its headers; those of equal right are glanced at, and no head is none."""
    heads: set[int] = set()
    while found.readable:
        best = series.select_preferred(found.readable)
        if len(best) > 1:
            strange = [one for one in best if id(one) not in heads and not _is_head(one, found)]
            heads.update(id(one) for one in best)
            found.readable = [one for one in found.readable if one not in strange]
            if not strange:
                listed = "; ".join(str(one) for one in best)
                raise SeveralSeries(f"{path.name}: holds {len(best)} head CT series: {listed}")
            continue
        try:
            scan = gate.check_scan(volume.read_series(best[0], progress).with_remarks(*found.remarks))
        except InputError as error:
            found.refusals.append(error)
            found.readable.remove(best[0])
            continue
        found.check_complete(best[0])
        return scan.with_remarks(*_remark_chosen(found), *_remark_refused(found))
    raise found.refusals[0]


def _is_head(one: Series, found: _DicomStudyContents) -> bool:
    try:
        gate.check_scan(volume.read_preview(one))
    except InputError as error:
        found.refusals.append(error)
        return False
    return True


def _remark_chosen(found: _DicomStudyContents) -> list[Remark]:
    if len(found.readable) < 2:
        return []
    [best] = series.select_preferred(found.readable)
    left = len(found.readable) - 1
    message = f"Of {left + 1} CT series the one with {len(best.slices)} slices was chosen; {left} left out."
    return [Remark(code="chose-series", severity="info", message=message)]


def _remark_refused(found: _DicomStudyContents) -> list[Remark]:
    if not found.refusals:
        return []
    reasons = ", ".join(sorted(error.code for error in found.refusals))
    message = f"{len(found.refusals)} other CT series cannot be used ({reasons}) and were left out."
    return [Remark(code="left-out", severity="info", message=message)]


def _read_volume_or_pictures(
    path: Path, members: list[InputFile], uid: str | None, window: Window | None, spacing_mm: Spacing | None
) -> Scan:
    """Read what is no DICOM: one volume, or a stack of pictures."""
    whole = [member for member in members if member.name.lower().endswith(volume_file.ENDINGS)]
    stack = [member for member in members if PurePosixPath(member.name).suffix.lower() in picture_stack.ENDINGS]
    if whole:  # a volume is worth more than pictures of it
        if len(whole) > 1:
            raise UnreadableFile(f"{path.name}: holds {len(whole)} volumes", "Give one of them.")
        others = [member for member in members if not member.name.lower().endswith(volume_file.DETACHED_DATA_ENDINGS)]
        count = len(others) - 1 - len(stack)
        remarks = _remark_unused_options(series=uid, window=window, spacing_mm=spacing_mm) + _remark_other_files(
            count, len(stack)
        )
        return gate.check_scan(volume_file.read_volume(whole[0], members).with_remarks(*remarks))
    if stack:
        remarks = _remark_unused_options(series=uid, window=None, spacing_mm=None) + _remark_other_files(
            len(members) - len(stack)
        )
        return gate.check_scan(picture_stack.read_stack(stack, window, spacing_mm).with_remarks(*remarks))
    if inner := next((member.name for member in members if input_file.has_archive_name(member.name)), None):
        if path.is_file():
            raise UnsafeArchive(
                f"{path.name}: the member {inner!r} is an archive inside an archive, and nothing else can be read",
                "Unpack the inner archive and give it alone.",
            )
        raise UnreadableFile(f"{path.name}: no DICOM, volume or picture in it, but {inner!r}", f"Give {inner} itself.")
    header.refuse_misnamed_dicom(members)
    raise UnreadableFile(f"{path.name}: no DICOM, volume or picture in it")


def _remark_other_files(count: int, pictures_beside: int = 0) -> list[Remark]:
    reasons = ["other file"] * count + ["picture"] * pictures_beside
    return [series.remark_left_out(reasons)] if reasons else []


def _remark_unused_options(**options: object) -> list[Remark]:
    """Say which options were given and do not fit the input."""
    names = ["--" + name.removesuffix("_mm") for name, value in options.items() if value is not None]
    if not names:
        return []
    message = f"{' and '.join(names)} given, but without meaning for this kind of input: not used."
    return [Remark(code="unused-option", severity="warning", message=message)]


@contextmanager
def _list_files(path: Path) -> Iterator[list[InputFile]]:
    """List the files that a path holds; an archive stays open as long as they are read."""
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a name too long, a folder on the way that may not be entered
        raise UnreadableFile(f"{path}: {error.strerror or error}", "Check the path and its permissions.") from None
    if is_folder:
        yield input_file.list_folder(path)
        return
    if not exists:
        raise UnreadableFile(f"{path}: no such file or folder", "Check the path.")
    if not is_file:
        raise UnreadableFile(f"{path.name}: is neither a file nor a folder")
    if not InputFile(path.name, path=path).read_start(1):
        raise UnreadableFile(f"{path.name}: the file is empty", "Copy or export it again.")
    if path.name.upper() == "DICOMDIR":  # a medium's index stands for the medium
        yield input_file.list_folder(path.parent)
        return
    with packed.open_archive(path) as members:
        yield [InputFile(path.name, path=path)] if members is None else members
