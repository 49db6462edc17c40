"""List the files of a path and pass them to the reader for their kind: DICOM, a volume, or pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from strokeseg.errors import UnreadableFile, UnsafeArchive
from strokeseg.library_output import silence_libraries
from strokeseg.reading import gate, input_file
from strokeseg.reading.archives.archive import is_readable_archive, open_archive
from strokeseg.reading.dicom.header_reader import refuse_misnamed_dicom
from strokeseg.reading.dicom.reader import read_each_series, read_preferred_series, sort_into_series
from strokeseg.reading.dicom.series_grouping import remark_left_out
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.pictures import picture_stack
from strokeseg.reading.progress import Progress
from strokeseg.reading.volumes import volume_file
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.scan_options import PictureOptions, SliceOrder

_MAX_LISTED = 6


def read_all_series(
    path: Path,
    uid: str | None,
    pictures: PictureOptions,
    progress: Progress | None = None,
) -> list[Scan]:
    """Read and check every series; see :func:`strokeseg.reading.read`."""
    path = _name_path(path)
    with silence_libraries(), _list_files(path) as files:
        inventory = sort_into_series(path, files, uid)
        if inventory is None and (archive := _find_only_archive(path, files)):
            scans = read_all_series(archive, uid, pictures, progress)
            return [scan.with_remarks(*_remark_other_files(len(files) - 1)) for scan in scans]
        if inventory is None:
            return [_read_volume_or_pictures(path, files, uid, pictures)]
        unused = _remark_unused_options(pictures)
        return [scan.with_remarks(*unused) for scan in read_each_series(inventory, progress)]


def read_one_series(
    path: Path,
    uid: str | None,
    pictures: PictureOptions,
    progress: Progress | None = None,
) -> Scan:
    """Choose, read and check one series; see :func:`strokeseg.reading.read_one`."""
    path = _name_path(path)
    with silence_libraries(), _list_files(path) as files:
        inventory = sort_into_series(path, files, uid)
        if inventory is None and (archive := _find_only_archive(path, files)):
            scan = read_one_series(archive, uid, pictures, progress)
            return scan.with_remarks(*_remark_other_files(len(files) - 1))
        if inventory is None:
            return _read_volume_or_pictures(path, files, uid, pictures)
        scan = read_preferred_series(path, inventory, progress)
        return scan.with_remarks(*_remark_unused_options(pictures))


def _name_path(path: Path) -> Path:
    """Return the whole path where it has no name of its own ("." and ".."), so that messages can name it."""
    return path if path.name not in ("", "..") else path.resolve()


def _find_only_archive(path: Path, files: list[InputFile]) -> Path | None:
    """Return the archive of a folder that holds one archive, and neither volumes nor pictures."""
    readable = (*volume_file.ENDINGS, *picture_stack.ENDINGS)
    if not path.is_dir() or any(file.name.lower().endswith(readable) for file in files):
        return None
    archives = [file.path for file in files if input_file.has_archive_name(file.name)]
    return archives[0] if len(archives) == 1 and archives[0] is not None and is_readable_archive(archives[0]) else None


def _read_volume_or_pictures(
    path: Path,
    files: list[InputFile],
    uid: str | None,
    options: PictureOptions,
) -> Scan:
    """Read input without DICOM files: one volume, or a stack of pictures; a volume goes before pictures."""
    volumes = [file for file in files if file.name.lower().endswith(volume_file.ENDINGS)]
    if path.suffix.lower() == ".img" and (header := path.with_suffix(".hdr")).is_file():  # the voxels of a pair
        volumes = [InputFile(header.name, path=header)]
    pictures = [file for file in files if PurePosixPath(file.name).suffix.lower() in picture_stack.ENDINGS]
    if volumes:
        if len(volumes) > 1:
            names = ", ".join(file.name for file in volumes[:_MAX_LISTED]) + ", ..." * (len(volumes) > _MAX_LISTED)
            raise UnreadableFile(f"{path.name}: holds {len(volumes)} volumes: {names}", "Give one of them.")
        attached = [file for file in files if not file.name.lower().endswith(volume_file.DETACHED_DATA_ENDINGS)]
        remarks = _remark_unused_options(options, series=uid)
        remarks += _remark_other_files(len(attached) - 1 - len(pictures), len(pictures))
        return gate.check_scan(volume_file.read_volume(volumes[0], files).with_remarks(*remarks))
    if pictures:
        remarks = _remark_unused_options(PictureOptions(), series=uid)
        remarks += _remark_other_files(len(files) - len(pictures))
        return gate.check_scan(picture_stack.read_stack(pictures, options).with_remarks(*remarks))
    if inner := next((file.name for file in files if input_file.has_archive_name(file.name)), None):
        if path.is_file():
            raise UnsafeArchive(
                f"{path.name}: the member {inner!r} is an archive inside an archive, and nothing else can be read",
                "Unpack the inner archive and give it alone.",
            )
        raise UnreadableFile(
            f"{path.name}: contains no DICOM, volume or picture, but {inner!r}", f"Give {inner} itself."
        )
    refuse_misnamed_dicom(files)
    raise UnreadableFile(f"{path.name}: contains no DICOM, volume or picture")


def _remark_other_files(count: int, picture_count: int = 0) -> list[Remark]:
    reasons = ["other file"] * count + ["picture"] * picture_count
    return [remark_left_out(reasons)] if reasons else []


def _remark_unused_options(pictures: PictureOptions, series: str | None = None) -> list[Remark]:
    """Return a remark (`unused-option`) on options that do not apply to the input."""
    order = None if pictures.order == SliceOrder.auto else pictures.order
    options = {"series": series, "window": pictures.window, "spacing": pictures.spacing_mm, "order": order}
    names = [f"--{name}" for name, value in options.items() if value is not None]
    if not names:
        return []
    message = f"{' and '.join(names)} not used: not applicable to this kind of input."
    return [Remark(code="unused-option", severity="warning", message=message)]


@contextmanager
def _list_files(path: Path) -> Iterator[list[InputFile]]:
    """List the files of a path; an archive stays open while they are read."""
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # the name is too long, or a parent folder may not be entered
        raise UnreadableFile(f"{path}: {error.strerror or error}", "Check the path and its permissions.") from None
    if is_folder:
        yield input_file.list_folder(path)
        return
    if not exists and path.is_symlink():
        raise input_file.make_link_error(path.name, path)
    if not exists:
        raise UnreadableFile(f"{path}: no such file or folder", "Check the path.")
    if not is_file:
        raise UnreadableFile(f"{path.name}: is neither a file nor a folder")
    if not InputFile(path.name, path=path).read_start(1):
        raise UnreadableFile(f"{path.name}: the file is empty", "Copy or export it again.")
    if path.name.upper() == "DICOMDIR":  # the index of a medium stands for the whole medium
        yield input_file.list_folder(path.parent)
        return
    with open_archive(path) as members:
        yield [InputFile(path.name, path=path)] if members is None else members
